import { FreshvecError } from '../db/errors.js';
import type { Filter } from './filter.js';

export const DEFAULT_K = 10;
export const MAX_K = 1000;
/** pgvector's own default, 40, loses recall as soon as a filter or dead rows thin the candidates out (DESIGN §7). */
export const DEFAULT_EF_SEARCH = 80;
/** Upper bound of pgvector's hnsw.ef_search. */
export const MAX_EF_SEARCH = 1000;

/** Ids are int4. */
const MAX_ID = 2_147_483_647;

/** Exactly one of `text` and `vector`. */
export interface SearchRequest {
  /** Embedded with the live model, or that of `space`. */
  readonly text?: string;
  /** A query that the caller has embedded: as many finite numbers as the live model has dimensions. */
  readonly vector?: Float32Array | readonly number[];
  /** Fingerprint of the model that made `vector`; a search while another one is live is refused. */
  readonly model?: string;
  /** How many hits at most: 1 to 1000, 10 unless told. */
  readonly k?: number;
  readonly where?: Filter;
  /** Value of the source's tenant column. */
  readonly tenant?: string;
  /** Candidates that an HNSW scan keeps: 1 to 1000, 80 unless told, never below k. More is slower and finds more. */
  readonly efSearch?: number;
  /** Looks into this space of the source in place of the live one: one that is building, ready or retained. */
  readonly space?: number;
}

export interface SearchLimits {
  readonly k: number;
  readonly efSearch: number;
}

/** Throws FreshvecError `search_request_invalid` for a request that cannot be meant. */
export function checkRequest(request: SearchRequest): SearchLimits {
  const { text, vector, model, k = DEFAULT_K, efSearch = DEFAULT_EF_SEARCH } = request;
  if ((text === undefined) === (vector === undefined)) {
    throw invalid(`Give either a text or a vector to search for${text === undefined ? '.' : ', not both.'}`);
  }
  if (text !== undefined && text.trim() === '') throw invalid('The text to search for is blank.');
  if (text !== undefined && model !== undefined) {
    throw invalid('`model` says what made a vector; a text is always embedded with the live model. Leave it out.');
  }
  if ('tenant' in request && request.tenant === undefined) {
    throw invalid("`tenant` is undefined, which would search all tenants' rows. Give one, or leave it out.");
  }
  if (vector !== undefined) checkVector(vector);
  checkWhole('k', k, MAX_K);
  checkWhole('efSearch', efSearch, MAX_EF_SEARCH);
  if (request.space !== undefined) checkWhole('space', request.space, MAX_ID);
  return { k, efSearch: Math.max(efSearch, k) };
}

function checkVector(vector: Float32Array | readonly number[]): void {
  if (vector.length === 0) throw invalid('The vector to search for is empty.');
  if (!vector.every((value) => Number.isFinite(Math.fround(value)))) {
    throw invalid('The vector to search for holds something that is not a finite 32-bit number.');
  }
}

function checkWhole(name: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return;
  throw invalid(`${name} must be a whole number from 1 to ${max}, not ${value}.`);
}

function invalid(message: string): FreshvecError {
  return new FreshvecError('search_request_invalid', message);
}
