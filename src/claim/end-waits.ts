import type { Executor } from '../db/database.js';

/** Makes keys that wait claimable at once, whatever they wait for. Their losses and attempts stay. */
export async function endWaits(db: Executor, spaceIds: readonly number[]): Promise<void> {
  await db.query(
    `UPDATE freshvec.lease l SET expires_at = clock_timestamp()
     FROM (SELECT space_id, key FROM freshvec.lease
           WHERE space_id = ANY($1::int[]) AND token IS NULL AND expires_at > clock_timestamp()
           ORDER BY space_id, key FOR UPDATE SKIP LOCKED) waiting
     WHERE l.space_id = waiting.space_id AND l.key = waiting.key`,
    [spaceIds],
  );
}
