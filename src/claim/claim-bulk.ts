import { PACK_KEYS } from '../catalog/pack.js';
import type { Executor } from '../db/database.js';
import {
  type ChangeClaim,
  type ChangeClaimOptions,
  type ClaimedRow,
  leasedSql,
  toChangeClaim,
} from './claim-changes.js';
import { LANES, LEASE_SECONDS } from './lease.js';

/**
 * Takes up to `limit` keys of the bulk lane, oldest first, and leases them: packs as capture wrote them, and single
 * changes that were put back. A pack that is only needed in part is cut: what is left stays where it is in the line.
 *
 * Packs are told by their ids, not by ctid: where another claim cut one just now, the row that is locked here is newer
 * than this statement's snapshot, and a look for its ctid would not find it.
 */
export async function claimBulk(
  db: Executor,
  spaceId: number,
  { token, worker, limit, fromId }: ChangeClaimOptions,
): Promise<ChangeClaim> {
  const rows = await db.query<ClaimedRow>(
    `WITH singles AS (
       SELECT c.ctid, c.id, c.key, c.tenant, c.force, c.at FROM freshvec.change c
       WHERE c.space_id = $1 AND c.lane = $2 AND c.id >= $3
       ORDER BY c.space_id, c.lane, c.id LIMIT $4 FOR UPDATE SKIP LOCKED
     ), packs AS (
       SELECT p.id, p.keys, p.tenants, cardinality(p.keys) AS n, p.at FROM freshvec.change_pack p
       WHERE p.space_id = $1 AND p.id >= $3
       ORDER BY p.space_id, p.id LIMIT $5 FOR UPDATE SKIP LOCKED
     ), line AS (
       SELECT id, n, sum(n) OVER (ORDER BY id) - n AS ahead
       FROM (SELECT id, 1 AS n FROM singles UNION ALL SELECT id, n FROM packs) u
     ), chosen AS (
       SELECT id, n, LEAST(n, $4::int - ahead)::int AS used FROM line WHERE ahead < $4::int
     ), cut AS (
       SELECT id, used FROM chosen WHERE used < n
     ), taken AS (
       SELECT s.key, s.tenant, s.force, s.at FROM singles s JOIN chosen USING (id)
       UNION ALL
       SELECT k.key, p.tenants[k.place], NULL, p.at FROM packs p JOIN chosen c USING (id)
       CROSS JOIN LATERAL unnest(p.keys[:c.used]) WITH ORDINALITY AS k(key, place)
     ), dropped_singles AS (
       DELETE FROM freshvec.change WHERE ctid = ANY(ARRAY(SELECT s.ctid FROM singles s JOIN chosen USING (id)))
     ), dropped_packs AS (
       DELETE FROM freshvec.change_pack
       WHERE space_id = $1 AND id = ANY(ARRAY(SELECT id FROM chosen WHERE used = n))
     ), cut_packs AS (
       UPDATE freshvec.change_pack
       SET keys = keys[(SELECT used FROM cut) + 1 :], tenants = tenants[(SELECT used FROM cut) + 1 :]
       WHERE space_id = $1 AND id = (SELECT id FROM cut)
     ), ${leasedSql(6)}
     SELECT t.more, t.last_id, l.* FROM (
       SELECT
         (SELECT COALESCE(sum(n), 0) FROM line) >= $4::int OR (SELECT count(*) FROM packs) >= $5::int AS more,
         -- Singles may be taken from behind packs that were not looked at.
         LEAST((SELECT max(id) FROM chosen), (SELECT max(id) FROM packs HAVING count(*) >= $5::int)) AS last_id) t
     LEFT JOIN leased l ON l.mine`,
    [spaceId, LANES.bulk, fromId, limit, 1 + Math.ceil(limit / PACK_KEYS), token, worker, LEASE_SECONDS],
  );
  return toChangeClaim(rows, fromId);
}
