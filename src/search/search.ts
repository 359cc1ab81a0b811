import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import type { Announcer } from './announcer.js';
import { askAnew, askRemembered, type Question } from './ask.js';
import type { NearRow } from './guarded.js';
import { type SearchHit, toHit } from './hit.js';
import type { PointerCache } from './pointer-cache.js';
import { type EmbedQuery, queryVectors } from './query-vectors.js';
import { checkRequest, type SearchRequest } from './request.js';
import { readSpaceTarget, readTarget, type SearchTarget } from './target.js';

export interface SearchDeps {
  readonly db: Database;
  readonly embedQuery: EmbedQuery;
  readonly pointers: PointerCache;
  /** Told of every answer; without one, `complete` does not know that somebody searches. */
  readonly announcer?: Announcer | undefined;
}

export interface SearchResult {
  /** Nearest first. */
  readonly results: SearchHit[];
  /** Of the pointer that answered; 0 while no space of the source is live. */
  readonly epoch: number;
  /** The space that answered; null while none is live. */
  readonly space: number | null;
}

/** A try misses for want of the query under a model that is new to it, or because the table was altered under it. */
const MAX_TRIES = 10;

/**
 * The rows of a source that are nearest to a text or a vector. Never compares vectors of two models, and does not fail
 * because the model is switched meanwhile.
 *
 * First it asks with the pointer that it remembers, in a statement that reads no vector unless that pointer still
 * holds. If it does not, the query is embedded for the new one, and from then on pointer and vectors are read in one
 * snapshot: such a try can only miss for want of the query under a model that it has not met yet. A request that names
 * a space goes the same way, with that space in the pointer's place; it remembers and announces nothing.
 *
 * A row on which the source's content fails is a stale hit; one on which its filter fails is none.
 *
 * Throws FreshvecError: `source_unknown`, `space_unknown`, `space_dropped`, `search_request_invalid`,
 * `search_dimensions`, `search_model_changed`, `filter_unknown_column`, `filter_invalid`, `tenant_not_supported`,
 * `search_unsettled`; EmbedError from `embedQuery`.
 */
export async function search(deps: SearchDeps, sourceName: string, request: SearchRequest): Promise<SearchResult> {
  const { db } = deps;
  const limits = checkRequest(request);
  const vectorSchema = await pgvectorSchema(db);
  const vectors = queryVectors(request, deps.embedQuery);
  const { space } = request;
  const read = (tx: Executor) =>
    space === undefined ? readTarget(tx, sourceName) : readSpaceTarget(tx, sourceName, space);
  let question: Question = { db, read, vectorSchema, vectors, limits, request, rowSql: 'plain' };
  const pointers = space === undefined ? deps.pointers : undefined;

  let target = pointers?.get(sourceName) ?? (await db.tx(read));
  for (let tries = 1; target !== undefined && tries <= MAX_TRIES; tries++) {
    await vectors.prepare(target);
    const outcome = tries === 1 ? await askRemembered(question, target) : await askAnew(question, target);
    if (outcome.near) {
      pointers?.set(sourceName, outcome.target);
      if (pointers) deps.announcer?.searched(db, outcome.target);
      return toResult(outcome.near, outcome.target);
    }
    pointers?.delete(sourceName);
    target = outcome.target;
    if (outcome.failing) question = { ...question, rowSql: 'caught' };
  }
  if (target === undefined) return { results: [], epoch: 0, space: null };
  throw new FreshvecError(
    'search_unsettled',
    `"${sourceName}" was changed under each of ${MAX_TRIES} tries to search it. Try again when its migration or DDL is done.`,
  );
}

function toResult(near: readonly NearRow[], target: SearchTarget): SearchResult {
  // A zero vector has no direction, so no cosine distance; an HNSW index leaves it out, an exact scan puts it last.
  const results = near.filter((row) => !Number.isNaN(row.__fv_distance)).map((row) => toHit(row, target));
  return { results, epoch: target.epoch, space: target.space.id };
}

async function pgvectorSchema(db: Database): Promise<string> {
  const extension = await db.vectorExtension();
  if (extension) return extension.schema;
  throw new FreshvecError('pgvector_missing', 'pgvector is not in this database. Run `freshvec schema apply`.');
}
