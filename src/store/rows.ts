import {
  contentSql,
  eligibleSql,
  fromSource,
  givenKeysSql,
  hashSql,
  keyArrays,
  keyJoinSql,
  keySql,
} from '../catalog/expressions.js';
import { type Source, stillDefinedSql } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident } from '../db/identifiers.js';
import type { PageRange, RowText, StoreCount, WrittenIn } from './port.js';
import { assertAllVisible, pagesOf, writtenSql } from './relation.js';
import { spaceRenamed } from './stands.js';

/**
 * How a store sees a row of the source: SQL over the source's row, and over `join`, whose columns begin with `__fv_`,
 * so that the source's own expressions keep their meaning.
 */
export interface RowView {
  /** Joined to the source's row: where the state of its vector is. Empty where that is on the row itself. */
  readonly join: string;
  /** The row's vector is that of its text, by the space's model. May be NULL. */
  readonly fresh: string;
  /** The row carries something of a vector, right or wrong. */
  readonly marked: string;
  /** The row's vector. */
  readonly vector: string;
  /** The row's flag is up in the live space. */
  readonly flagUp: string;
  /** The row's vector was there before the space was and is to be taken over, should the row want one. Never NULL. */
  readonly adoptable: (relationOid: number) => string;
  /** Whether a vector was left behind for the keys `__fv_i.__fv_k1 …`, whose row is gone. */
  readonly orphaned: string;
  /** The names that all this stands under are still the space's; else what was read is another space's. */
  readonly stands: string;
  /** Counts the space's vectors; `__fv_marked` is in scope. */
  readonly vectors: string;
}

/**
 * `Store.read`: the state and text of these keys, in one statement. Throws FreshvecError `space_renamed` where source or
 * space mean something else by now: what is read must not pass for what was asked.
 */
export async function readRows(
  tx: Executor,
  source: Source,
  space: Space,
  view: RowView,
  keys: readonly string[],
): Promise<RowText[]> {
  const eligible = eligibleSql(source);
  const table = ident(source.relation.table);
  const rows = await tx.query<RowText & { stands: boolean } & Record<string, unknown>>(
    `SELECT ${view.stands} AND ${stillDefinedSql(source)} AS stands, __fv_i.__fv_key AS key, __fv_i.__fv_there AS exists,
       CASE WHEN NOT __fv_i.__fv_there OR NOT __fv_i.__fv_eligible THEN 'unwanted'
         WHEN __fv_i.__fv_fresh THEN 'fresh' ELSE 'wanted' END AS state,
       CASE WHEN __fv_i.__fv_there THEN __fv_i.__fv_untidy ELSE ${view.orphaned} END AS untidy,
       __fv_i.__fv_text AS text, __fv_i.__fv_hash AS hash, __fv_i.__fv_page AS page, f.hash AS "failedHash"
     FROM (
       SELECT __fv_i.*, __fv_r.*, __fv_r.__fv_eligible IS NOT NULL AS __fv_there
       FROM ${givenKeysSql(source.key)}
       LEFT JOIN LATERAL (
         SELECT ${eligible} AS __fv_eligible, COALESCE(${view.fresh}, false) AS __fv_fresh,
           ${view.flagUp} OR (NOT ${eligible} AND ${view.marked}) AS __fv_untidy,
           CASE WHEN ${eligible} THEN ${contentSql(source.content, source.relation.table)} END AS __fv_text,
           CASE WHEN ${eligible} THEN ${hashSql(source)} END AS __fv_hash,
           ${table}.tableoid || ':' || (${table}.ctid::text::point)[0] AS __fv_page
         FROM ${fromSource(source)} ${view.join} WHERE ${keyJoinSql(source.key, source.relation.table, '__fv_i')}
       ) __fv_r ON true
     ) __fv_i LEFT JOIN freshvec.failure f ON f.space_id = ${space.id} AND f.key = __fv_i.__fv_key`,
    [keys, ...keyArrays(source.key, keys)],
  );
  if (rows.some(({ stands }) => !stands)) throw spaceRenamed(space);
  if (rows.some((row) => !row.exists)) await assertAllVisible(tx, source);
  return rows.map(({ stands, ...row }) => row);
}

/**
 * `Store.diff`: keys in these pages that are not as they should be, that nobody holds and that did not fail as they are.
 * Throws FreshvecError `space_renamed`.
 */
export async function diffRows(
  tx: Executor,
  source: Source,
  space: Space,
  view: RowView,
  pages: PageRange,
  limit: number,
): Promise<string[]> {
  const { from, where } = await pagesOf(tx, source, pages);
  const [found] = await tx.query<{ stands: boolean; keys: string[] }>(
    `SELECT ${view.stands} AS stands, ARRAY(
       SELECT __fv_key FROM (
         SELECT ${keySql(source.key, source.relation.table)} AS __fv_key, ${hashSql(source)} AS __fv_hash
         FROM ${from} ${view.join} WHERE ${where}
         AND CASE WHEN ${eligibleSql(source)} THEN (COALESCE(NOT ${view.fresh}, true) OR ${view.flagUp}) AND NOT ${view.adoptable(pages.relationOid)}
           ELSE ${view.marked} OR ${view.flagUp} END
       ) __fv_s
       WHERE ${isKeyFreeOf('lease', space)} AND ${isKeyFreeOf('failure', space, ' AND __fv_o.hash = __fv_hash')}
       LIMIT $1) AS keys`,
    [limit],
  );
  if (!found?.stands) throw spaceRenamed(space);
  return found.keys;
}

/**
 * Holds where the table has nothing of `__fv_key`. OFFSET keeps it a look by key for each row: as a join, by the statistics of
 * a table that was nearly empty when they were made, it compared each of the rows with all of the space's leases.
 */
function isKeyFreeOf(table: 'lease' | 'failure', space: Space, and = ''): string {
  return `NOT EXISTS (SELECT FROM freshvec.${table} __fv_o WHERE __fv_o.space_id = ${space.id} AND __fv_o.key = __fv_key${and} OFFSET 0)`;
}

/** `Store.suspects`: evaluates nothing but the key. */
export async function suspectRows(
  tx: Executor,
  source: Source,
  space: Space,
  pages: PageRange,
  written?: WrittenIn,
): Promise<string[]> {
  const { from, where } = await pagesOf(tx, source, pages);
  const side = written === undefined ? 'true' : writtenSql(source, written.when, '$1');
  const rows = await tx.query<{ key: string }>(
    `SELECT __fv_key AS key FROM (SELECT ${keySql(source.key, source.relation.table)} AS __fv_key FROM ${from} WHERE ${where} AND ${side}) __fv_s
     WHERE ${isKeyFreeOf('lease', space)} AND ${isKeyFreeOf('failure', space)}`,
    written === undefined ? [] : [written.xid],
  );
  return rows.map((row) => row.key);
}

/** `Store.count`: reads the whole source, under whatever limits its transaction has. */
export async function countRows(tx: Executor, source: Source, space: Space, view: RowView): Promise<StoreCount> {
  const [row] = await tx.query<{ rows: number; fresh: number; failed: number; vectors: number }>(
    `SELECT count(*) FILTER (WHERE __fv_eligible) AS rows,
       count(*) FILTER (WHERE __fv_eligible AND __fv_fresh) AS fresh,
       count(*) FILTER (WHERE __fv_eligible AND NOT __fv_fresh AND EXISTS (
         SELECT FROM freshvec.failure f WHERE f.space_id = ${space.id} AND f.key = __fv_key AND f.hash = __fv_hash)) AS failed,
       ${view.vectors} AS vectors
     FROM (SELECT ${eligibleSql(source)} AS __fv_eligible, COALESCE(${view.fresh}, false) AS __fv_fresh,
             ${view.marked} AS __fv_marked, ${keySql(source.key, source.relation.table)} AS __fv_key,
             ${hashSql(source)} AS __fv_hash
           FROM ${fromSource(source)} ${view.join}) __fv_s`,
  );
  return row ?? { rows: 0, fresh: 0, failed: 0, vectors: 0 };
}
