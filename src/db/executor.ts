import type { Executor, Row, VectorExtension } from './database.js';

/** What `tx` pins: each of these settings changes how a value becomes text, and with it a hash. */
export const PINNED_SETTINGS = [
  `SET LOCAL timezone = 'UTC'`,
  `SET LOCAL datestyle = 'ISO, MDY'`,
  `SET LOCAL intervalstyle = 'postgres'`,
  `SET LOCAL extra_float_digits = 1`,
  `SET LOCAL bytea_output = 'hex'`,
].join('; ');

type Run = <R extends Row>(text: string, params?: readonly unknown[]) => Promise<R[]>;

/** An executor over one connection. Statements issued at once run one after the other, in the order of the calls. */
export function executor(run: Run): Executor {
  let last: Promise<unknown> = Promise.resolve();
  return {
    query<R extends Row = Row>(text: string, params?: readonly unknown[]): Promise<R[]> {
      const result = last.then(() => run<R>(text, params));
      last = result.catch(() => undefined);
      return result;
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
