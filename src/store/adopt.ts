import { eligibleSql, keySql } from '../catalog/expressions.js';
import { type Source, stillDefinedSql } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, literal } from '../db/identifiers.js';
import type { Adopted, PageRange } from './port.js';
import { pagesOf } from './relation.js';

export const NOTHING_ADOPTED: Adopted = { adopted: 0, held: 0, lockedMs: 0 };

/** Older than any row is, by `age(xid)`. */
const ANY_AGE = -2_147_483_647;

/**
 * True where a row holds a vector that freshvec did not make while the space's adoption is open. What moves rows between
 * partitions unseen (MERGE) would hide an edit from capture, so in a partition a row counts only as it was when capture
 * began. Where the space's columns were given other names meanwhile, nothing is true any more.
 */
export function adoptableSql(source: Source, space: Space, relationOid: number): string {
  const table = ident(source.relation.table);
  const [vector, model, hash] = ['', '_model', '_hash'].map(
    (suffix) => `${table}.${ident(`${space.column}${suffix}`)}`,
  );
  return `COALESCE(${vector} IS NOT NULL AND ${model} IS NULL AND ${hash} IS NULL AND pg_catalog.age(${table}.xmin) > (
    SELECT CASE WHEN __fv_c.relispartition THEN pg_catalog.age(__fv_p.since::pg_catalog.xid) ELSE ${ANY_AGE} END
    FROM freshvec.space __fv_p, pg_catalog.pg_class __fv_c
    WHERE __fv_p.id = ${space.id} AND __fv_p.adoption = 'open' AND __fv_p.column_name = ${literal(space.column)} AND __fv_c.oid = ${relationOid}), false)`;
}

/**
 * `Store.adopt`: says of rows that hold a vector that it was made from their present text, in one statement.
 *
 * An edit that capture saw must win. It leaves a change in its own transaction; the change becomes a lease, and the lease
 * ends as a hash on the row, a failure, or a vector taken away, each in one transaction. So a snapshot shows of a row that
 * was edited a change, a lease, a failure, or a row that is not adoptable any more. One snapshot (`__fv_seen`) finds none
 * of these; the lock shows that the row still is the version that this snapshot saw (a row that was changed since is
 * locked in its new place, which is none of those seen), and keeps it so until the commit. What an app holds is left
 * alone, and the app waits for nothing.
 */
export async function adoptRows(
  tx: Executor,
  source: Source,
  space: Space,
  pages: PageRange,
  limit: number,
  { adoptable, set }: { adoptable: string; set: string },
): Promise<Adopted> {
  const { from, where } = await pagesOf(tx, source, pages);
  const table = ident(source.relation.table);
  const none = (name: string) =>
    `NOT EXISTS (SELECT FROM freshvec.${name} __fv_w WHERE __fv_w.space_id = ${space.id} AND __fv_w.key = __fv_key)`;
  const [row] = await tx.query<{ seen: number; adopted: number; locked_ms: number | null }>(
    `WITH __fv_seen AS MATERIALIZED (
       SELECT __fv_at FROM (
         SELECT ${table}.ctid AS __fv_at, ${keySql(source.key, source.relation.table)} AS __fv_key
         FROM ${from} WHERE ${where} AND ${adoptable} AND ${eligibleSql(source)}
       ) __fv_s
       WHERE ${none('lease')} AND ${none('failure')} AND ${none('change_key')}
       LIMIT $1
     ), __fv_held AS MATERIALIZED (
       SELECT ${table}.ctid AS __fv_at, clock_timestamp() AS __fv_since FROM ${from}
       WHERE ${table}.ctid = ANY(ARRAY(SELECT __fv_at FROM __fv_seen)) FOR NO KEY UPDATE OF ${table} SKIP LOCKED
     ), __fv_done AS (
       UPDATE ${from} SET ${set}
       WHERE ${table}.ctid = ANY(ARRAY(SELECT __fv_at FROM __fv_held INTERSECT SELECT __fv_at FROM __fv_seen))
         AND ${stillDefinedSql(source)}
       RETURNING 1
     )
     SELECT __fv_s.n AS seen, __fv_d.n AS adopted,
       (extract(epoch FROM clock_timestamp() - __fv_h.since) * 1000)::float8 AS locked_ms
     FROM (SELECT count(*) AS n FROM __fv_done) __fv_d, (SELECT count(*) AS n FROM __fv_seen) __fv_s,
       (SELECT min(__fv_since) AS since FROM __fv_held) __fv_h`,
    [limit],
  );
  if (!row) return NOTHING_ADOPTED;
  return { adopted: row.adopted, held: row.seen - row.adopted, lockedMs: row.locked_ms ?? 0 };
}
