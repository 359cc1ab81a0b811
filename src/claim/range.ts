import { type Source, stillDefinedSql } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { TAKE_TIME_SQL } from '../db/timeouts.js';

/** A row of `freshvec.range`: pages of a table still to be visited. */
export type RangeRow = {
  id: number;
  purpose: 'load' | 'sweep' | 'prune';
  relation_oid: number;
  filenode: number;
  from_page: number;
  to_page: number;
  /** Null where the relation is gone. */
  present_filenode: number | null;
  /** Pages of the relation; null where it is gone. */
  pages: number | null;
  /** Whether the relation is the source, or a part of it; one that was detached is not. */
  within: boolean;
};

/** Behind every page that a relation may have: a range from 0 to it is the relation as a whole. */
export const PAST_LAST_PAGE = 4_294_967_295;

/**
 * Whoever takes a range reads its pages next, which may take long. Whose part it is is asked upwards: downwards
 * (pg_partition_tree) each visit would lock all partitions.
 */
function columnsSql({ relation }: Source): string {
  return `${TAKE_TIME_SQL}, r.id, r.purpose, r.relation_oid::int8, r.filenode::int8, r.from_page, r.to_page,
       pg_relation_filenode(r.relation_oid::regclass)::int8 AS present_filenode,
       pg_relation_size(r.relation_oid::regclass) / current_setting('block_size')::int8 AS pages,
       CASE WHEN r.relation_oid = ${relation.oid} THEN true
         ELSE EXISTS (SELECT FROM pg_partition_ancestors(r.relation_oid::regclass) a WHERE a.relid = ${relation.oid}) END AS within`;
}

/** Locks the first range that nobody visits. A worker that knows the source from before an `alter` would find rows in order that are not. */
export async function takeRange(tx: Executor, spaceId: number, source: Source): Promise<RangeRow | undefined> {
  const [row] = await tx.query<RangeRow>(
    `SELECT ${columnsSql(source)} FROM freshvec.range r
     WHERE r.space_id = $1 AND ${stillDefinedSql(source)} ORDER BY r.id LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [spaceId],
  );
  return row;
}

/** Locks this range again, unless somebody else visits it by now or has dropped it. */
export async function takeRangeAgain(tx: Executor, id: number, source: Source): Promise<RangeRow | undefined> {
  const [row] = await tx.query<RangeRow>(
    `SELECT ${columnsSql(source)} FROM freshvec.range r WHERE r.id = $1 FOR UPDATE SKIP LOCKED`,
    [id],
  );
  return row;
}

/** A visit of so many pages takes a moment in which edits would wait, narrow rows that they are. */
const LONG_PAGES = 256;
/** Ordinary ranges have such a part of a large relation (`source/ranges.ts`). */
const LONG_PART = 1 / 4096;

/**
 * Whether a visit of the range takes long: the closing one of a first load, or a part of it, and any look for what deleted
 * rows left, which reads every vector.
 */
export function isLong({ purpose, from_page, to_page, pages }: RangeRow): boolean {
  if (purpose === 'prune') return true;
  const most = Math.max(LONG_PAGES, (pages ?? 0) * LONG_PART + 1);
  return Math.min(to_page, pages ?? 0) - from_page > most;
}

export async function dropRange(tx: Executor, id: number): Promise<void> {
  await tx.query('DELETE FROM freshvec.range WHERE id = $1', [id]);
}

/** Drops what is to be visited of a relation that is no part of the source any more. What others visit now they drop. */
export async function dropRangesOf(tx: Executor, spaceId: number, relationOid: number): Promise<void> {
  await tx.query(
    `DELETE FROM freshvec.range WHERE id = ANY(ARRAY(
       SELECT id FROM freshvec.range WHERE space_id = $1 AND relation_oid = $2 FOR UPDATE SKIP LOCKED))`,
    [spaceId, relationOid],
  );
}

/** Pages with rows that somebody holds do not keep the others waiting. */
export async function putLast(tx: Executor, id: number): Promise<void> {
  await tx.query(
    `WITH range AS (DELETE FROM freshvec.range WHERE id = $1 RETURNING *)
     INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     SELECT space_id, purpose, relation_oid, filenode, from_page, to_page FROM range`,
    [id],
  );
}

/** Puts two ranges in place of one that was dropped. */
export async function insertHalves(tx: Executor, spaceId: number, range: RangeRow, middle: number): Promise<void> {
  await tx.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     VALUES ($1, $2, $3, $4, $5, $6), ($1, $2, $3, $4, $6, $7)`,
    [spaceId, range.purpose, range.relation_oid, range.filenode, range.from_page, middle, range.to_page],
  );
}

/**
 * VACUUM FULL, CLUSTER and the like move rows to other pages: the pages still to be visited mean nothing any more, so
 * the relation is visited anew as a whole. A relation that was dropped has nothing to visit.
 *
 * Other visitors may have found the same at this moment. Each drops the ranges that nobody holds and puts new ones in
 * place unless they are there; of those that do so at once each does, and pages are looked at twice.
 */
export async function replaceRewritten(tx: Executor, spaceId: number, range: RangeRow): Promise<void> {
  await tx.query(
    `DELETE FROM freshvec.range WHERE id = ANY(ARRAY(
       SELECT id FROM freshvec.range WHERE space_id = $1 AND relation_oid = $2 AND filenode = $3 AND purpose = $4
       FOR UPDATE SKIP LOCKED))`,
    [spaceId, range.relation_oid, range.filenode, range.purpose],
  );
  if (range.present_filenode === null) return;
  await tx.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     SELECT $1, $2, $3, $4, v.from_page, v.to_page FROM (
       SELECT p, p + 64 FROM generate_series(0, pg_relation_size($3::oid::regclass) / current_setting('block_size')::int, 64) p
       UNION ALL SELECT 0, ${PAST_LAST_PAGE}) v(from_page, to_page)
     WHERE NOT EXISTS (SELECT FROM freshvec.range r
       WHERE r.space_id = $1 AND r.relation_oid = $3 AND r.filenode = $4 AND r.purpose = $2)`,
    [spaceId, range.purpose, range.relation_oid, range.present_filenode],
  );
}
