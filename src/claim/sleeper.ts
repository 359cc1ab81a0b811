import { RINGING } from '../catalog/ringing.js';
import type { Executor } from '../db/database.js';

/** How long capture rings for a sleeper that does not say so again, in s. */
const RING_SECONDS = 60;

/**
 * Has capture ring from now on; half the time before it would end, it is renewed. Resolves to whether it did so already,
 * and whether a transaction that rings is open: until it has ended, others leave it at that.
 */
export async function lieDown(db: Executor): Promise<{ rings: boolean; ringing: boolean }> {
  const [row] = await db.query<{ rings: boolean; late: boolean; ringing: boolean }>(
    `SELECT until > now AS rings, until < now + $1::int / 2 AS late,
       EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND (l.classid, l.objid) = (${RINGING})
         AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) AS ringing
     FROM (SELECT COALESCE(pg_sequence_last_value('freshvec.ring_until'), 0) AS until,
             extract(epoch FROM clock_timestamp()) AS now) s`,
    [RING_SECONDS],
  );
  if (row?.rings !== true || row.late) {
    await db.query(`SELECT setval('freshvec.ring_until', extract(epoch FROM clock_timestamp())::bigint + $1::int)`, [
      RING_SECONDS,
    ]);
  }
  return { rings: row?.rings ?? false, ringing: row?.ringing ?? false };
}

/** Has capture ring no more: somebody is awake. Whoever sleeps and still wants it says so at its next look. */
export async function wakeUp(db: Executor): Promise<void> {
  await db.query(`SELECT setval('freshvec.ring_until', 1) WHERE pg_sequence_last_value('freshvec.ring_until') > 1`);
}
