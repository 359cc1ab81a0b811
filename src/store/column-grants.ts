import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { columnsOf } from './column.js';

type Grant = {
  schema: string;
  table: string;
  /** Null for PUBLIC. */
  role: string | null;
  privilege: string;
  grantable: boolean;
  columns: string[];
};

/**
 * DDL that lets roles do with the columns of `to` what they were granted on those of `from`, on the source and on each
 * partition, which has grants of its own. What a role may do with a whole table goes for new columns too; what it was
 * granted column by column does not, and its searches would fail once they are answered from the new ones.
 */
export async function copyGrantsSql(db: Executor, source: Source, from: Space, to: Space): Promise<string[]> {
  if (from.store !== 'column' || to.store !== 'column') return [];
  const grants = await db.query<Grant>(
    `SELECT n.nspname AS schema, c.relname AS "table", pg_get_userbyid(NULLIF(x.grantee, 0))::text AS role,
       x.privilege_type AS privilege, x.is_grantable AS grantable, array_agg(DISTINCT p.new ORDER BY p.new) AS columns
     FROM unnest($2::text[], $3::text[]) p(old, new)
     JOIN pg_attribute a ON a.attname = p.old AND NOT a.attisdropped
       AND (a.attrelid = $1::oid OR a.attrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))
     JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL aclexplode(a.attacl) x
     GROUP BY c.oid, n.nspname, c.relname, x.grantee, x.privilege_type, x.is_grantable
     ORDER BY c.oid, x.grantee, x.privilege_type`,
    [source.relation.oid, columnsOf(from), columnsOf(to)],
  );
  return grants.map(
    ({ schema, table, role, privilege, grantable, columns }) =>
      `GRANT ${privilege} (${columns.map(ident).join(', ')}) ON ${qualified(schema, table)} TO ${role === null ? 'PUBLIC' : ident(role)}${grantable ? ' WITH GRANT OPTION' : ''}`,
  );
}
