import type { Executor } from '../db/database.js';
import { type Lane, LEASE_SECONDS, type LeasedKey, type LeaseRow, toLeasedKey } from './lease.js';

export interface ChangeClaim {
  readonly leased: readonly LeasedKey[];
  /** Change rows consumed; more than keys when one key changed often or is held by somebody. */
  readonly consumed: number;
  /** Highest change id consumed, where the next claim may start. */
  readonly lastId: number;
}

/**
 * Takes up to `limit` of the oldest changes of one lane and leases their keys.
 *
 * `fromId` is a hint, not a cursor: ids below it may commit late, so the caller looks from 0 again every second.
 * Without the hint a claim reads every dead row that a held snapshot keeps.
 */
export async function claimChanges(
  db: Executor,
  spaceId: number,
  lane: Lane,
  { token, worker, limit, fromId }: { token: string; worker: string; limit: number; fromId: number },
): Promise<ChangeClaim> {
  const rows = await db.query<LeaseRow & { consumed: number; last_id: number | null; mine: boolean | null }>(
    `WITH taken AS (
       DELETE FROM freshvec.change WHERE ctid = ANY(ARRAY(
         SELECT c.ctid FROM freshvec.change c
         WHERE c.space_id = $1 AND c.lane = $2 AND c.id >= $3
         ORDER BY c.space_id, c.lane, c.id LIMIT $4 FOR UPDATE SKIP LOCKED))
       RETURNING id, key, tenant, force, at
     ), keys AS (
       SELECT key, max(tenant) AS tenant, bool_or(COALESCE(force, false)) AS force, min(at) AS since FROM taken GROUP BY key
     ), leased AS (
       INSERT INTO freshvec.lease AS l (space_id, key, token, worker, expires_at, force, lane, tenant, since)
       SELECT $1, key, $5::uuid, $6, clock_timestamp() + make_interval(secs => $7), force, $2, tenant, since FROM keys
       ORDER BY key COLLATE "C"
       ON CONFLICT (space_id, key) DO UPDATE SET again = true, again_force = l.again_force OR excluded.force
       RETURNING key, attempts, losses, force, token IS NOT DISTINCT FROM $5::uuid AS mine
     )
     SELECT t.consumed, t.last_id, l.* FROM (SELECT count(*) AS consumed, max(id) AS last_id FROM taken) t
     LEFT JOIN leased l ON l.mine`,
    [spaceId, lane, fromId, limit, token, worker, LEASE_SECONDS],
  );
  return {
    leased: rows.filter((row) => row.mine === true).map(toLeasedKey),
    consumed: rows[0]?.consumed ?? 0,
    lastId: rows[0]?.last_id ?? fromId,
  };
}
