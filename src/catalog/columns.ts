import type { Executor } from '../db/database.js';

/** Those of these columns that the table has. */
export async function columnsThere(db: Executor, tableOid: number, names: readonly string[]): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    'SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped',
    [tableOid],
  );
  const there = new Set(rows.map(({ name }) => name));
  return names.filter((name) => there.has(name));
}

/** Those of these names that no column has, each once. */
export async function goneColumns(db: Executor, tableOid: number, names: readonly string[]): Promise<string[]> {
  const there = new Set(await columnsThere(db, tableOid, names));
  return [...new Set(names)].filter((name) => !there.has(name)).sort();
}
