import type { Executor, Row, StatementOptions, VectorExtension } from './database.js';

/** What `tx` pins: each of these settings changes how a value becomes text, and with it a hash. */
export const PINNED_SETTINGS = [
  `SET LOCAL timezone = 'UTC'`,
  `SET LOCAL datestyle = 'ISO, MDY'`,
  `SET LOCAL intervalstyle = 'postgres'`,
  `SET LOCAL extra_float_digits = 1`,
  `SET LOCAL bytea_output = 'hex'`,
].join('; ');

type Run = <R extends Row>(text: string, params?: readonly unknown[], options?: StatementOptions) => Promise<R[]>;

/**
 * An executor over one connection, which runs its statements one after the other in the order of the calls. Statements
 * issued at once are sent at once where the connection can, and share a round trip.
 */
export function executor(run: Run): Executor {
  let over = false;
  return {
    query<R extends Row = Row>(text: string, params?: readonly unknown[], options?: StatementOptions): Promise<R[]> {
      if (over) return Promise.reject(new TypeError('the transaction has had its last statement'));
      over = options?.last === true;
      return run<R>(text, params, options);
    },
  };
}

/** Looks pgvector up in the catalog. */
export async function readVectorExtension(db: Executor): Promise<VectorExtension | undefined> {
  const [found] = await db.query<{ schema: string; version: string }>(
    `SELECT n.nspname AS schema, e.extversion AS version
     FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'vector'`,
  );
  return found;
}
