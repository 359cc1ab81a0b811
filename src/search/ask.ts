import { fromSource } from '../catalog/expressions.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError, sqlState } from '../db/errors.js';
import { askAgain, askGuarded, guardedStatement, type NearRow } from './guarded.js';
import type { Knn } from './operator.js';
import type { QueryVectors } from './query-vectors.js';
import type { SearchLimits, SearchRequest } from './request.js';
import type { RowSql } from './select-list.js';
import type { SearchTarget } from './target.js';

/**
 * What one transaction came to: an answer, or the target to prepare for; without one, no space is live. `failing`: the
 * user's SQL may have failed on a row, which the next try must catch.
 */
export type Attempt =
  | { readonly near: NearRow[]; readonly target: SearchTarget }
  | { readonly near?: undefined; readonly target: SearchTarget | undefined; readonly failing?: true };

/** One search, as it goes from try to try. */
export interface Question {
  readonly db: Database;
  /** Reads what is to be searched now. */
  readonly read: (tx: Executor) => Promise<SearchTarget | undefined>;
  readonly vectorSchema: string;
  readonly vectors: QueryVectors;
  readonly limits: SearchLimits;
  readonly request: SearchRequest;
  readonly rowSql: RowSql;
}

/** The hot path: one guarded statement. On a mismatch the target is read again on the connection that answered. */
export async function askRemembered(question: Question, target: SearchTarget): Promise<Attempt> {
  const { db, read } = question;
  try {
    return await db.tx(
      async (tx) => {
        const answer = await attempt(tx, question, target);
        return answer.near ? answer : { target: await read(tx) };
      },
      { eager: true },
    );
  } catch (error) {
    // A column or table that we remember was dropped or renamed meanwhile.
    const gone = sqlState(error) === '42703' || sqlState(error) === '42P01';
    return missed(question, target, error, gone);
  }
}

/**
 * Reads the target and asks in the same snapshot, if the query is at hand under the model of that target. The table is
 * locked before the snapshot is taken, as any SELECT locks it: names are resolved in the present catalog, not in the
 * snapshot, so columns that `cutover --rename` exchanges in between would be read under each other's names.
 * @param known the target of the try before: where the table is
 */
export async function askAnew(question: Question, known: SearchTarget, lock = true): Promise<Attempt> {
  const { db, read } = question;
  let target: SearchTarget | undefined;
  try {
    return await db.tx(async (tx) => {
      await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      if (lock) await tx.query(`LOCK TABLE ONLY ${fromSource(known.source)} IN ACCESS SHARE MODE`);
      target = await read(tx);
      return target === undefined ? { target } : await attempt(tx, question, target);
    });
  } catch (error) {
    // LOCK wants SELECT on the table; a role that has it column by column goes without.
    if (lock && target === undefined && sqlState(error) === '42501') return askAnew(question, known, false);
    return missed(question, target ?? known, error, false);
  }
}

/**
 * A statement that cannot be parsed is a mismatch where the target has changed meanwhile, and an error where it has not.
 * A value that is refused may be a row's: only where the rows' are caught, it is the request's.
 */
async function missed(question: Question, target: SearchTarget, error: unknown, surely: boolean): Promise<Attempt> {
  const { db, read, request, rowSql } = question;
  if (classify(error) === 'data' && rowSql === 'plain') return { target, failing: true };
  const state = sqlState(error);
  if (state?.startsWith('42') && state !== '42501') {
    const now = await db.tx(read);
    if (surely || now?.version !== target.version || now.epoch !== target.epoch) return { target: now };
  }
  const conditioned = request.where !== undefined || request.tenant !== undefined;
  throw conditioned && isBadValue(error) ? badValue(error) : error;
}

/**
 * By the vector index first. Where that gives fewer than k rows of a filtered search it may have met its limits before
 * it met the rows, so the same guarded statement is asked once more, exactly, and answers alone.
 */
async function attempt(
  tx: Executor,
  { vectorSchema, vectors, limits, request, rowSql }: Question,
  target: SearchTarget,
): Promise<Attempt> {
  const query = vectors.get(target);
  if (query === undefined) return { target };
  const statement = (knn: Knn) => guardedStatement(target, vectorSchema, query, limits.k, request, knn, rowSql);
  let answer = await askGuarded(tx, statement('approximate'), limits);
  if (answer?.filtered && answer.near.length < limits.k) answer = await askAgain(tx, statement('exact'));
  return answer ? { near: answer.near, target } : { target };
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
