import type { Executor } from '../db/database.js';
import { LANES, LEASE_SECONDS, type LeasedKey, type LeaseRow, toLeasedKey } from './lease.js';

export interface ChangeClaimOptions {
  readonly token: string;
  readonly worker: string;
  readonly limit: number;
  /**
   * A hint, not a cursor: ids below it may commit late, so the caller looks from 0 again every second. Without it a
   * claim reads every dead row that a held snapshot keeps.
   */
  readonly fromId: number;
}

export interface ChangeClaim {
  readonly leased: readonly LeasedKey[];
  /** The limit was reached: there may be more behind `lastId`. Keys may be few, where somebody holds them or one changed often. */
  readonly more: boolean;
  /** Highest change id looked at, where the next claim may start. */
  readonly lastId: number;
}

/** `mine` is null in the one row that there is when nothing was leased. */
export type ClaimedRow = LeaseRow & { more: boolean; last_id: number | null; mine: boolean | null };

/**
 * Takes up to `limit` of the oldest changes of the interactive lane and leases their keys. `bulk` tells whether the bulk
 * lane has anything from `bulkFromId` on, `waits` whether the time has come of a key that waited: these are claimed by
 * statements of their own, which edits shall not wait for in vain.
 */
export async function claimChanges(
  db: Executor,
  spaceId: number,
  { token, worker, limit, fromId, bulkFromId }: ChangeClaimOptions & { readonly bulkFromId: number },
): Promise<ChangeClaim & { readonly bulk: boolean; readonly waits: boolean }> {
  const rows = await db.query<ClaimedRow & { bulk: boolean; waits: boolean }>(
    `WITH taken AS (
       DELETE FROM freshvec.change WHERE ctid = ANY(ARRAY(
         SELECT c.ctid FROM freshvec.change c
         WHERE c.space_id = $1 AND c.lane = $2 AND c.id >= $3
         ORDER BY c.space_id, c.lane, c.id LIMIT $4 FOR UPDATE SKIP LOCKED))
       RETURNING id, key, tenant, force, at
     ), ${leasedSql(5)}
     SELECT t.more, t.last_id, t.bulk, t.waits, l.* FROM (
       SELECT count(*) >= $4::int AS more, max(id) AS last_id,
         EXISTS (SELECT FROM freshvec.change c WHERE c.space_id = $1 AND c.lane = ${LANES.bulk} AND c.id >= $8)
           OR EXISTS (SELECT FROM freshvec.change_pack p WHERE p.space_id = $1 AND p.id >= $8) AS bulk,
         EXISTS (SELECT FROM freshvec.lease w WHERE w.space_id = $1 AND w.token IS NULL AND w.expires_at <= statement_timestamp()) AS waits
       FROM taken) t
     LEFT JOIN leased l ON l.mine`,
    [spaceId, LANES.interactive, fromId, limit, token, worker, LEASE_SECONDS, bulkFromId],
  );
  return { ...toChangeClaim(rows, fromId), bulk: rows[0]?.bulk ?? false, waits: rows[0]?.waits ?? false };
}

/**
 * CTEs `keys` and `leased`: leases of the keys in `taken`, in key order, of space `$1` and lane `$2`; a key that is held is
 * marked `again`. The parameters from `first` on are token, worker and the lease's seconds.
 */
export function leasedSql(first: number): string {
  return `keys AS (
       SELECT key, max(tenant) AS tenant, bool_or(COALESCE(force, false)) AS force, min(at) AS since FROM taken GROUP BY key
     ), leased AS (
       INSERT INTO freshvec.lease AS l (space_id, key, token, worker, expires_at, force, lane, tenant, since)
       SELECT $1, key, $${first}::uuid, $${first + 1}, clock_timestamp() + make_interval(secs => $${first + 2}), force, $2, tenant, since
       FROM keys ORDER BY key COLLATE "C"
       ON CONFLICT (space_id, key) DO UPDATE SET again = true, again_force = l.again_force OR excluded.force
       RETURNING key, attempts, losses, force, token IS NOT DISTINCT FROM $${first}::uuid AS mine
     )`;
}

export function toChangeClaim(rows: readonly ClaimedRow[], fromId: number): ChangeClaim {
  return {
    leased: rows.filter((row) => row.mine === true).map(toLeasedKey),
    more: rows[0]?.more ?? false,
    lastId: rows[0]?.last_id ?? fromId,
  };
}
