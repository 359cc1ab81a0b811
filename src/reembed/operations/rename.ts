import { columnsThere } from '../../catalog/columns.js';
import type { Migration } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import { getSpace } from '../../catalog/space.js';
import type { Executor } from '../../db/database.js';
import type { PlannedStatement } from '../../source/index.js';
import { columnsOf, exchangeColumnsSql } from '../../store/column.js';
import { MigrationRefused } from '../errors.js';
import { readersSql } from './dependents.js';

/** SQLSTATE of an exchange that found a view made since it was looked for. */
export const DEPENDED_ON = 'FV002';

/**
 * Has the two spaces of a migration exchange their columns' names, so that SQL that names the column goes with the
 * switch. Writes the catalog in the caller's transaction, and resolves to what is to be run under the table's lock in
 * the same one. Indexes, triggers and privileges follow their columns; workers and searches that know the old names find
 * out in the very statement that would use them (`standsSql`, the version of a search's target).
 *
 * Throws MigrationRefused where a view or function depends on the columns: it would go on with the old ones, under
 * their new name.
 */
export async function exchangeNames(
  tx: Executor,
  source: Source,
  migration: Migration,
  command: 'cutover' | 'rollback',
): Promise<PlannedStatement[]> {
  const refused = (why: string) => new MigrationRefused(source.name, command, migration.state, why);
  const [from, to] = [await getSpace(tx, migration.fromSpaceId), await getSpace(tx, migration.toSpaceId)];
  if (!from || !to) throw refused('one of its two spaces is gone');
  if (from.store !== 'column' || to.store !== 'column') {
    throw refused(
      'names are exchanged only where old and new vectors are both columns of the table. Say `cutover` without --rename',
    );
  }
  const columns = [...columnsOf(from), ...columnsOf(to)];
  const dependents = (await tx.query<{ name: string }>(readersSql(source, columns))).map(({ name }) => name);
  if (dependents.length > 0) {
    throw refused(
      `${dependents.join(', ')} would go on with the column that it was made with, under its new name. Drop it first, and make it anew afterwards`,
    );
  }
  await tx.query(
    `UPDATE freshvec.space SET column_name = CASE id WHEN $1::int THEN $4 ELSE $3 END WHERE id IN ($1::int, $2::int)`,
    [from.id, to.id, from.column, to.column],
  );
  await tx.query('UPDATE freshvec.migration SET renamed = NOT renamed WHERE id = $1', [migration.id]);
  const there = await columnsThere(tx, source.relation.oid, columns);
  const lock = 'ACCESS EXCLUSIVE, for milliseconds';
  const none = `IF EXISTS (${readersSql(source, columns)}) THEN
  RAISE EXCEPTION 'freshvec: a view was made on the vectors just now' USING ERRCODE = '${DEPENDED_ON}'; END IF`;
  return [
    { sql: none, lock, why: 'finds a view that was made meanwhile' },
    ...exchangeColumnsSql(source, from, to, there).map((sql) => ({ sql, lock, why: 'exchanges the names' })),
  ];
}
