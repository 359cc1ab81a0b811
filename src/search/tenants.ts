import { column, fromSource, givenKeysSql, keyArrays, keyJoinSql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database } from '../db/database.js';

/** Whose the rows with these keys are, as text; nothing of rows without a tenant, and of a source that knows none. */
export async function tenantsOf(db: Database, source: Source, keys: readonly string[]): Promise<Map<string, string>> {
  if (source.tenantColumn === undefined || keys.length === 0) return new Map();
  const tenant = column(source, source.tenantColumn);
  const rows = await db.query<{ key: string; tenant: string }>(
    `SELECT __fv_i.__fv_key AS key, ${tenant}::text AS tenant
     FROM ${givenKeysSql(source.key)}
     JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')}
     WHERE ${tenant} IS NOT NULL`,
    [keys, ...keyArrays(source.key, keys)],
  );
  return new Map(rows.map((row) => [row.key, row.tenant]));
}
