import { getSourceById, type Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';

/** The source with its table's present name: it may have been renamed. Undefined when the table was dropped. */
export async function currentSource(db: Executor, source: Source): Promise<Source | undefined> {
  const [row] = await db.query<{ schema: string; table: string }>(
    `SELECT n.nspname AS schema, c.relname AS "table"
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
    [source.relation.oid],
  );
  return row && { ...source, relation: { ...source.relation, ...row } };
}

/** Held until the transaction ends by whoever changes what capture does for the source, or what spaces it has. */
export async function lockSource(tx: Executor, id: number): Promise<void> {
  await tx.query('SELECT FROM freshvec.source WHERE id = $1 FOR NO KEY UPDATE', [id]);
}

/**
 * The source as it is now, held until the transaction ends by whoever changes what capture does for it. What a statement
 * makes of a source that was read before may undo what somebody else has done since. Throws FreshvecError `table_gone`.
 */
export async function holdSource(tx: Executor, { id, name }: Pick<Source, 'id' | 'name'>): Promise<Source> {
  await lockSource(tx, id);
  const recorded = await getSourceById(tx, id);
  const source = recorded && (await currentSource(tx, recorded));
  if (source) return source;
  throw new FreshvecError('table_gone', `The source "${name}" or its table was dropped. Remove the source.`);
}
