import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import type { PageRange, WrittenIn } from './port.js';

/**
 * Throws FreshvecError `rows_hidden` where row-level security keeps rows of the source from this role: a hidden row
 * looks like one that was deleted. For the transaction that looked, whose lock keeps the policies as they are.
 */
export async function assertAllVisible(tx: Executor, { relation, name }: Source): Promise<void> {
  const [row] = await tx.query<{ hidden: boolean; role: string }>(
    `SELECT row_security_active(oid) AS hidden, current_user::text AS role FROM pg_class WHERE oid = $1`,
    [relation.oid],
  );
  if (row?.hidden) throw rowsHidden(name, `${relation.schema}.${relation.table}`, row.role);
}

function rowsHidden(source: string, table: string, role: string): FreshvecError {
  return new FreshvecError(
    'rows_hidden',
    `Row-level security of ${table} hides rows of source "${source}" from the role ${role}: nothing is written until it sees ` +
      `all of them. ALTER ROLE ${role} BYPASSRLS, or as the owner's role ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY.`,
  );
}

/**
 * FROM and WHERE for the pages of one plain table. The alias is the source's own name, so that the
 * source's expressions mean the leaf's rows. The last page number of a range is open.
 */
export async function pagesOf(
  tx: Executor,
  source: Source,
  pages: PageRange,
): Promise<{ from: string; where: string }> {
  const [relation] = await tx.query<{ schema: string; name: string; hidden: boolean; role: string }>(
    `SELECT n.nspname AS schema, c.relname AS name, row_security_active(c.oid) AS hidden, current_user::text AS role
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
    [pages.relationOid],
  );
  if (!relation) {
    throw new FreshvecError(
      'relation_gone',
      `A table of source "${source.name}" was dropped while its rows were visited.`,
    );
  }
  if (relation.hidden) throw rowsHidden(source.name, `${relation.schema}.${relation.name}`, relation.role);
  const table = ident(source.relation.table);
  return {
    from: `${qualified(relation.schema, relation.name)} AS ${table}`,
    where: `${table}.ctid >= '(${pages.fromPage},0)'::tid AND ${table}.ctid < '(${pages.toPage},0)'::tid`,
  };
}

/**
 * Holds for rows on that side of the transaction whose id is the parameter `xid`. CASE, so that the content of the other
 * rows is not computed. A row that was frozen long ago may count as either, but always as the same.
 */
export function writtenSql(source: Source, when: WrittenIn['when'], xid: string): string {
  const recent = `age(${ident(source.relation.table)}.xmin) <= age(${xid}::text::xid)`;
  return `(CASE WHEN ${recent} THEN ${when === 'since'} ELSE ${when === 'before'} END)`;
}
