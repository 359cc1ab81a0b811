import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { ident, literal } from '../db/identifiers.js';
import { vectorTable } from '../store/table.js';

/**
 * DDL that lets every role search a space with a table of its own through `freshvec.search`: a role sees the vector of
 * a row if, and only if, it sees the row (grants and row-level security of the source hold). Text can be recovered from
 * vectors, so they are not simply granted. Who may write the table, a worker that does not own it, sees all of it.
 * Each statement may be run twice; all of them belong in one transaction.
 */
export function shareTableSql(source: Source, space: Space): string[] {
  const vectors = vectorTable(space);
  const table = ident(source.relation.table);
  const sameKey = source.key.map(({ name }) => `${table}.${ident(name)} = ${vectors}.${ident(name)}`).join(' AND ');
  const writes = `(SELECT pg_catalog.has_table_privilege(${literal(vectors)}, 'INSERT'))`;
  return [
    `ALTER TABLE ${vectors} ENABLE ROW LEVEL SECURITY`,
    `DROP POLICY IF EXISTS freshvec_write ON ${vectors}`,
    `CREATE POLICY freshvec_write ON ${vectors} FOR ALL USING (${writes}) WITH CHECK (true)`,
    `DROP POLICY IF EXISTS freshvec_read ON ${vectors}`,
    // Not EXISTS: the planner may hash the whole source for that; one row is looked up by key.
    `CREATE POLICY freshvec_read ON ${vectors} FOR SELECT USING (
  (SELECT true FROM ${fromSource(source)} WHERE ${sameKey}))`,
    `GRANT SELECT ON ${vectors} TO PUBLIC`,
  ];
}
