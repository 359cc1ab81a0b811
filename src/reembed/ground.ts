import { goneColumns } from '../catalog/columns.js';
import type { Migration } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/**
 * What a migration stands on and somebody took away: a renamed table, a renamed, dropped or retyped column, the table of
 * a space. In words, with what to do; undefined where all of it is there.
 */
export async function missingGround(
  db: Executor,
  migration: Migration,
  source: Source,
  from: Space,
  to: Space,
): Promise<string | undefined> {
  const { oid, schema, table } = source.relation;
  const [now] = await db.query<{ schema: string; table: string }>(
    `SELECT n.nspname AS schema, c.relname AS "table" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid`,
    [oid],
  );
  if (now && (now.schema !== schema || now.table !== table)) {
    return `the table ${schema}.${table} is called ${now.schema}.${now.table} now: rename it back, then \`resume\``;
  }
  const lost = await missingColumns(db, source);
  if (lost !== undefined) return lost;
  const [ofFrom, ofTo] = await Promise.all([from, to].map((space) => missingSpace(db, migration, source, space)));
  return ofFrom ?? ofTo;
}

/** Whether the vectors of a space are where it has them: searches may be answered from there. */
export async function standsOn(db: Executor, migration: Migration, source: Source, space: Space): Promise<boolean> {
  return (await missingSpace(db, migration, source, space)) === undefined;
}

/** Key and tenant columns, and those that content and filter read, that are not there under their names. */
export async function missingColumns(db: Executor, source: Source): Promise<string | undefined> {
  const gone = await goneColumns(db, source.relation.oid, [
    ...source.key.map(({ name }) => name),
    ...('columns' in source.content ? source.content.columns : []),
    ...source.baseColumns,
    ...(source.tenantColumn === undefined ? [] : [source.tenantColumn]),
  ]);
  if (gone.length === 0) return undefined;
  const { schema, table } = source.relation;
  return `the column ${gone.join(', ')} of ${schema}.${table} was renamed or dropped: bring it back, or \`source alter\`, then \`resume\``;
}

/** A table that is made again under the name is another one: nothing of the old one can be taken up. */
export function tableDropped({ name, relation }: Source, { state }: Pick<Migration, 'state'>): string {
  const abort = state === 'soaking' ? '' : '`abort` ends it; ';
  return `the table ${relation.schema}.${relation.table} was dropped: ${abort}\`freshvec source remove ${name}\` takes away what is left`;
}

/** Names and types of the table's columns. */
async function columnsOf(db: Executor, { relation }: Source): Promise<Map<string, string>> {
  const rows = await db.query<{ name: string; type: string }>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
     WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped`,
    [relation.oid],
  );
  return new Map(rows.map(({ name, type }) => [name, type]));
}

/** What can be done without this space. */
function wayOut({ state, fromSpaceId }: Migration, lost: Space): string {
  const old = lost.id === fromSpaceId;
  if (state === 'soaking') return old ? '`complete`: searches need it no more' : '`rollback`, then `abort`';
  if (state === 'rolled_back') return old ? '`cutover`' : '`abort`';
  return '`abort`';
}

async function missingSpace(
  db: Executor,
  migration: Migration,
  source: Source,
  space: Space,
): Promise<string | undefined> {
  const [[recorded], present] = await Promise.all([
    db.query<{ state: string }>('SELECT state FROM freshvec.space WHERE id = $1', [space.id]),
    columnsOf(db, source),
  ]);
  // Not there yet, or on its way out.
  if (!recorded || recorded.state === 'dropped' || migration.dropSpaceId === space.id) return undefined;
  if (space.store === 'table') {
    const [table] = await db.query<{ there: boolean }>(
      `SELECT to_regclass('freshvec.vector_' || $1) IS NOT NULL AS there`,
      [space.id],
    );
    return table?.there ? undefined : `the table freshvec.vector_${space.id} is gone: ${wayOut(migration, space)}`;
  }
  const wanted = `${space.type}(${space.dimensions})`;
  const found = present.get(space.column)?.replace(/^.*\./, '');
  const companions = [`${space.column}_model`, `${space.column}_hash`].filter((name) => !present.has(name));
  // An adopted column may be without a modifier.
  const fits = found === wanted || (space.adoption !== undefined && found === space.type);
  if (fits && companions.length === 0) return undefined;
  const what =
    found === undefined
      ? `the column ${space.column}`
      : !fits
        ? `the column ${space.column} is ${found}, not ${wanted}; it`
        : `the column ${companions.join(', ')}`;
  return `${what} was renamed, dropped or altered by somebody else: bring it back, then \`resume\`, or ${wayOut(migration, space)}`;
}
