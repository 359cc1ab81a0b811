import type { Executor } from '../db/database.js';
import { LEASE_SECONDS, type LeasedKey, type LeaseRow, toLeasedKey } from './lease.js';

/** Keys that waited (back-off, put back) and whose time has come, the first to come first. */
export async function claimWaiting(
  db: Executor,
  spaceId: number,
  { token, worker, limit }: { token: string; worker: string; limit: number },
): Promise<LeasedKey[]> {
  const rows = await db.query<LeaseRow>(
    `UPDATE freshvec.lease l SET token = $2::uuid, worker = $3, again = false, force = l.force OR l.again_force, again_force = false,
       expires_at = clock_timestamp() + make_interval(secs => $5)
     WHERE l.space_id = $1 AND l.key = ANY(ARRAY(
       SELECT key FROM freshvec.lease
       WHERE space_id = $1 AND token IS NULL AND expires_at <= statement_timestamp()
       ORDER BY expires_at LIMIT $4 FOR UPDATE SKIP LOCKED))
     RETURNING l.key, l.attempts, l.losses, l.force`,
    [spaceId, token, worker, limit, LEASE_SECONDS],
  );
  return rows.map(toLeasedKey);
}

/**
 * Keys whose worker went silent: killed, or stopped past its lease. Each counts as an attempt, since the text may be
 * what killed it. Batches shrink as attempts grow (16, 4, 1), until the guilty text stands alone.
 */
export async function claimExpired(
  db: Executor,
  spaceId: number,
  { token, worker }: { token: string; worker: string },
): Promise<LeasedKey[]> {
  const rows = await db.query<LeaseRow>(
    `UPDATE freshvec.lease l SET token = $2::uuid, worker = $3, again = false, force = l.force OR l.again_force, again_force = false, attempts = l.attempts + 1,
       expires_at = clock_timestamp() + make_interval(secs => $4)
     WHERE l.space_id = $1 AND l.key = ANY(ARRAY(
       SELECT key FROM freshvec.lease
       WHERE space_id = $1 AND token IS NOT NULL AND expires_at <= clock_timestamp()
         AND attempts = (SELECT max(attempts) FROM freshvec.lease
                         WHERE space_id = $1 AND token IS NOT NULL AND expires_at <= clock_timestamp())
       ORDER BY key
       LIMIT (SELECT CASE max(attempts) WHEN 0 THEN 16 WHEN 1 THEN 4 ELSE 1 END FROM freshvec.lease
              WHERE space_id = $1 AND token IS NOT NULL AND expires_at <= clock_timestamp())
       FOR UPDATE SKIP LOCKED))
     RETURNING l.key, l.attempts, l.losses, l.force`,
    [spaceId, token, worker, LEASE_SECONDS],
  );
  return rows.map(toLeasedKey);
}
