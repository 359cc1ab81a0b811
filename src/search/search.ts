import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import { askGuarded, guardedStatement, type NearRow } from './guarded.js';
import { type SearchHit, toHit } from './hit.js';
import type { PointerCache } from './pointer-cache.js';
import { type EmbedQuery, type QueryVectors, queryVectors } from './query-vectors.js';
import { checkRequest, type SearchLimits, type SearchRequest } from './request.js';
import { readTarget, type SearchTarget } from './target.js';

export interface SearchDeps {
  readonly db: Database;
  readonly embedQuery: EmbedQuery;
  readonly pointers: PointerCache;
}

export interface SearchResult {
  /** Nearest first. */
  readonly results: SearchHit[];
  /** Of the pointer that answered; 0 while no space of the source is live. */
  readonly epoch: number;
}

/** A try misses for want of the query under a model that is new to it, or because the table was altered under it. */
const MAX_TRIES = 10;

/** What one transaction came to: an answer, or the target to prepare for; without one, no space is live. */
type Attempt =
  | { readonly near: NearRow[]; readonly target: SearchTarget }
  | { readonly near?: undefined; readonly target: SearchTarget | undefined };

/** Asks once in this transaction. */
type Ask = (tx: Executor, target: SearchTarget) => Promise<Attempt>;

/**
 * The rows of a source that are nearest to a text or a vector. Never compares vectors of two models, and does not fail
 * because the model is switched meanwhile.
 *
 * First it asks with the pointer that it remembers, in a statement that reads no vector unless that pointer still
 * holds. If it does not, the query is embedded for the new one, and from then on pointer and vectors are read in one
 * snapshot: such a try can only miss for want of the query under a model that it has not met yet.
 *
 * Throws FreshvecError: `source_unknown`, `search_request_invalid`, `search_dimensions`, `search_model_changed`,
 * `filter_unknown_column`, `filter_invalid`, `tenant_not_supported`; EmbedError from `embedQuery`.
 */
export async function search(deps: SearchDeps, sourceName: string, request: SearchRequest): Promise<SearchResult> {
  const { db, pointers } = deps;
  const limits = checkRequest(request);
  const vectorSchema = await pgvectorSchema(db);
  const vectors = queryVectors(request, deps.embedQuery);
  const ask: Ask = (tx, target) => attempt(tx, { target, vectorSchema, vectors, limits, request });

  let target = pointers.get(sourceName) ?? (await db.tx((tx) => readTarget(tx, sourceName)));
  for (let tries = 1; target !== undefined && tries <= MAX_TRIES; tries++) {
    await vectors.prepare(target);
    const outcome = tries === 1 ? await askRemembered(db, sourceName, target, ask) : await askAnew(db, sourceName, ask);
    if (outcome.near) {
      pointers.set(sourceName, outcome.target);
      return toResult(outcome.near, outcome.target);
    }
    pointers.delete(sourceName);
    target = outcome.target;
  }
  if (target === undefined) return { results: [], epoch: 0 };
  throw new FreshvecError(
    'search_unsettled',
    `"${sourceName}" was changed under each of ${MAX_TRIES} tries to search it. Try again when its migration or DDL is done.`,
  );
}

/** The hot path: one guarded statement. On a mismatch the pointer is read again on the connection that answered. */
async function askRemembered(db: Database, sourceName: string, target: SearchTarget, ask: Ask): Promise<Attempt> {
  try {
    return await db.tx(async (tx) => {
      const answer = await ask(tx, target);
      return answer.near ? answer : { target: await readTarget(tx, sourceName) };
    });
  } catch (error) {
    // A column or table that we remember was dropped or renamed meanwhile.
    if (sqlState(error) !== '42703' && sqlState(error) !== '42P01') throw error;
    return { target: await db.tx((tx) => readTarget(tx, sourceName)) };
  }
}

/** Reads the pointer and asks in the same snapshot, if the query is at hand under the model that is live there. */
function askAnew(db: Database, sourceName: string, ask: Ask): Promise<Attempt> {
  return db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    const target = await readTarget(tx, sourceName);
    return target === undefined ? { target } : ask(tx, target);
  });
}

interface Question {
  readonly target: SearchTarget;
  readonly vectorSchema: string;
  readonly vectors: QueryVectors;
  readonly limits: SearchLimits;
  readonly request: SearchRequest;
}

async function attempt(tx: Executor, { target, vectorSchema, vectors, limits, request }: Question): Promise<Attempt> {
  const query = vectors.get(target);
  if (query === undefined) return { target };
  const statement = guardedStatement(target, vectorSchema, query, limits.k, request);
  const filtered = request.where !== undefined || request.tenant !== undefined;
  try {
    const near = await askGuarded(tx, statement, limits);
    return near ? { near, target } : { target };
  } catch (error) {
    throw filtered && isBadValue(error) ? badValue(error) : error;
  }
}

/** Data exceptions, and operators that a column's type does not have. */
function isBadValue(error: unknown): boolean {
  const state = sqlState(error);
  return state !== undefined && (state.startsWith('22') || state === '42883' || state === '42804');
}

function badValue(error: unknown): FreshvecError {
  const reason = error instanceof Error ? error.message : String(error);
  return new FreshvecError('filter_invalid', `The filter does not fit the columns' types: ${reason}.`, {
    cause: error,
  });
}

function toResult(near: readonly NearRow[], target: SearchTarget): SearchResult {
  // A zero vector has no direction, so no cosine distance; an HNSW index leaves it out, an exact scan puts it last.
  const results = near.filter((row) => !Number.isNaN(row.__fv_distance)).map((row) => toHit(row, target));
  return { results, epoch: target.epoch };
}

async function pgvectorSchema(db: Database): Promise<string> {
  const extension = await db.vectorExtension();
  if (extension) return extension.schema;
  throw new FreshvecError('pgvector_missing', 'pgvector is not in this database. Run `freshvec schema apply`.');
}
