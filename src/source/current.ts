import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';

/** The source with its table's present name: it may have been renamed. Undefined when the table was dropped. */
export async function currentSource(db: Executor, source: Source): Promise<Source | undefined> {
  const [row] = await db.query<{ schema: string; table: string }>(
    `SELECT n.nspname AS schema, c.relname AS "table"
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
    [source.relation.oid],
  );
  return row && { ...source, relation: { ...source.relation, ...row } };
}
