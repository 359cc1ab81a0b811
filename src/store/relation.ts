import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import type { PageRange } from './port.js';

/**
 * FROM and WHERE for the pages of one plain table. The alias is the source's own name, so that the
 * source's expressions mean the leaf's rows. The last page number of a range is open: rows behind it belong to capture.
 */
export async function pagesOf(
  tx: Executor,
  source: Source,
  pages: PageRange,
): Promise<{ from: string; where: string }> {
  const [relation] = await tx.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
    [pages.relationOid],
  );
  if (!relation) {
    throw new FreshvecError(
      'relation_gone',
      `A table of source "${source.name}" was dropped while its rows were visited.`,
    );
  }
  const table = ident(source.relation.table);
  return {
    from: `${qualified(relation.schema, relation.name)} AS ${table}`,
    where: `${table}.ctid >= '(${pages.fromPage},0)'::tid AND ${table}.ctid < '(${pages.toPage},0)'::tid`,
  };
}
