import type { Executor } from '../db/database.js';
import { LEASE_SECONDS } from './lease.js';

/** Extends the leases of these tokens; those that somebody else took over stay theirs. */
export async function renew(db: Executor, tokens: readonly string[]): Promise<void> {
  await db.query(
    `UPDATE freshvec.lease SET expires_at = clock_timestamp() + make_interval(secs => $2)
     WHERE (space_id, key) IN (
       SELECT space_id, key FROM freshvec.lease WHERE token = ANY($1::uuid[]) ORDER BY space_id, key FOR UPDATE SKIP LOCKED)`,
    [tokens, LEASE_SECONDS],
  );
}
