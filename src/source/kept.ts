import { isDeepStrictEqual } from 'node:util';
import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, literal } from '../db/identifiers.js';
import { dropSpaceSql } from '../store/index.js';
import { vectorTable } from '../store/table.js';
import { companionTypes } from './refuse.js';

/**
 * What a removal without `dropVectors` leaves. Columns are found again by their names; a table of vectors is remembered
 * with what it holds, and a source that would make the same vectors takes its id, and so the table and its index. Rows
 * are judged by model and hash, as always: nothing that still fits is paid for again.
 */

/** SQL that remembers a table of vectors, and shows it to nobody: the rows that said who may see them are not watched. */
export function keepSql(source: Source, space: Space): string[] {
  const table = vectorTable(space);
  return [
    `DELETE FROM freshvec.kept_space WHERE to_regclass('freshvec.vector_' || space_id) IS NULL`,
    `INSERT INTO freshvec.kept_space (space_id, source, space)
VALUES (${space.id}, ${literal(JSON.stringify(source))}, ${literal(JSON.stringify(space))})`,
    `DROP POLICY IF EXISTS freshvec_read ON ${table}`,
    `REVOKE SELECT ON ${table} FROM PUBLIC`,
  ];
}

/** Id of the space whose table of vectors this one would make anew; the latest, if there are several. */
export async function findKept(db: Executor, source: Source, space: Space): Promise<number | undefined> {
  if (space.store !== 'table') return undefined;
  const rows = await db.query<{ id: number; source: Source; space: Space }>(
    `SELECT k.space_id AS id, k.source, k.space FROM freshvec.kept_space k
     WHERE to_regclass('freshvec.vector_' || k.space_id) IS NOT NULL ORDER BY k.removed_at DESC, k.space_id DESC`,
  );
  const wanted = vectorsOf(source, space);
  return rows.find(
    (row) => sameTable(row.source, source) && isDeepStrictEqual(vectorsOf(row.source, row.space), wanted),
  )?.id;
}

/** SQL that makes a kept table a space's again, beside what makes any: rows that went meanwhile have their vectors removed. */
export function takeUpSql(source: Source, { id }: Pick<Space, 'id'>): string[] {
  return [
    `DELETE FROM freshvec.kept_space WHERE space_id = ${id}`,
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
VALUES (${id}, 'prune', ${literal(fromSource(source))}::regclass, 0, 0, 0)`,
  ];
}

/** For a person: what stays, and how to be rid of it. */
export function keptNote(source: Source, space: Space): string {
  const { schema, table } = source.relation;
  if (space.store === 'table') {
    return (
      `The vectors stay in ${vectorTable(space)}; \`source add\` of this table with the same model and settings takes them up again, unpaid. ` +
      `To drop them: ${dropSpaceSql(source, space).join('; ')};`
    );
  }
  const columns = companionTypes(space, source.flagColumn).map(({ name }) => ident(name));
  // A column that was there before freshvec came is not ours to drop.
  const ours = space.adoption === undefined ? columns : columns.filter((name) => name !== ident(space.column));
  return (
    `The vectors stay in the columns ${columns.join(', ')} of ${schema}.${table}; \`source add\` with the same column takes them up again, unpaid. ` +
    `To drop ${ours === columns ? 'them' : "freshvec's own"}: ALTER TABLE ${ident(schema)}.${ident(table)} ${ours.map((name) => `DROP COLUMN ${name}`).join(', ')};`
  );
}

function sameTable({ relation: a }: Pick<Source, 'relation'>, { relation: b }: Pick<Source, 'relation'>): boolean {
  return a.oid === b.oid || (a.schema === b.schema && a.table === b.table);
}

/**
 * All that decides how a vector comes about and lies in its table. What only says which rows have one, and of which
 * text, is left out: hashes tell. A fact of sources or spaces that is not named here counts.
 */
function vectorsOf(source: Source, space: Space): unknown {
  const { id, name, relation, content, baseColumns, filter, tenantColumn, flagColumn, version, ...how } = source;
  const { id: spaceId, sourceId, state, column, ...where } = space;
  return JSON.parse(JSON.stringify({ how, where }));
}
