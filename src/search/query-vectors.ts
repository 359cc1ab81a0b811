import { FreshvecError } from '../db/errors.js';
import type { SearchRequest } from './request.js';
import type { SearchTarget } from './target.js';

/**
 * Embeds a query text with the model of this spec, which made the vectors under this fingerprint; resolves to a
 * Float32Array of the model's dimensions.
 */
export type EmbedQuery = (spec: string, text: string, fingerprint: string) => Promise<Float32Array>;

/** The query as each model sees it, embedded at most once for each. */
export interface QueryVectors {
  /** Undefined until `prepare` has been awaited for a target with this model. */
  get(target: SearchTarget): Float32Array | undefined;
  /** May call the network: never inside a transaction. */
  prepare(target: SearchTarget): Promise<void>;
}

/**
 * A raw vector is worth something under one model only: the one named in the request, else the one that was live when
 * the search began. Throws FreshvecError `search_dimensions` or `search_model_changed`.
 */
export function queryVectors(request: SearchRequest, embedQuery: EmbedQuery): QueryVectors {
  const vectors = new Map<string, Float32Array>();
  let madeBy = request.model;

  const raw = (target: SearchTarget, given: Float32Array | readonly number[]): Float32Array => {
    const live = target.space.fingerprint;
    madeBy ??= live;
    if (madeBy !== live) throw modelChanged(target, madeBy);
    return checked(Float32Array.from(given), target);
  };

  return {
    get: (target) => vectors.get(target.space.fingerprint),
    async prepare(target) {
      const { fingerprint, spec } = target.space;
      if (vectors.has(fingerprint)) return;
      const vector =
        request.vector === undefined
          ? checked(await embedQuery(spec, request.text ?? '', fingerprint), target)
          : raw(target, request.vector);
      vectors.set(fingerprint, vector);
    },
  };
}

function checked(vector: Float32Array, { source, space }: SearchTarget): Float32Array {
  if (vector.length === space.dimensions) return vector;
  throw new FreshvecError(
    'search_dimensions',
    `The query has ${vector.length} dimensions, but the vectors of "${source.name}" have ${space.dimensions} ` +
      `(${space.fingerprint}). Embed it with that model, or search by text.`,
  );
}

function modelChanged({ source, space }: SearchTarget, madeBy: string): FreshvecError {
  return new FreshvecError(
    'search_model_changed',
    `The query vector was made by ${madeBy}, but "${source.name}" is now searched with ${space.fingerprint}: vectors of ` +
      'two models are never compared. Embed the query again with that model, or search by text.',
  );
}
