import type { ThrottleSettings } from '../../../config/throttle.js';
import type { Executor } from '../../../db/database.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { judge, notYet, READ_MS, type Reader } from '../reading.js';

const WINDOW_SECONDS = 60;

/**
 * Checkpoints that come before their time, because WAL reached max_wal_size: each makes the server write out its memory
 * at once, and whole pages into the WAL afterwards. One that is asked for by hand counts as well.
 */
export function checkpoints(settings: Pick<ThrottleSettings, 'requestedCheckpoints'>): Reader | undefined {
  const { requestedCheckpoints } = settings;
  if (requestedCheckpoints === null) return undefined;
  const gauge = { name: 'checkpoints', unit: 'a minute', bound: requestedCheckpoints };
  let counted: string | undefined;
  let marks: { now: number; requested: number }[] = [];
  return {
    gauges: [gauge],
    async read(db) {
      const reading = readOnly(db, READ_MS);
      counted ??= await whereCounted(reading);
      const [row] = await reading.query<{ now: number; requested: number }>(
        `SELECT extract(epoch FROM clock_timestamp())::float8 AS now, ${counted}`,
      );
      if (!row) throw new Error('the server does not say how many checkpoints there were');
      const last = marks.at(-1);
      if (last === undefined || row.requested < last.requested) {
        marks = [row]; // Begun, or the statistics were reset.
        return [notYet(gauge, 'a count needs two readings')];
      }
      marks = [...marks, row].filter(({ now }) => now >= row.now - WINDOW_SECONDS);
      const judged = judge(gauge, row.requested - (marks[0] ?? row).requested, {
        floor: FLOOR,
        why: 'WAL reaches max_wal_size before checkpoint_timeout: raise max_wal_size, or let it take longer',
      });
      // Each slows down once: for the rest of the minute it is past, and cannot be helped.
      const past = judged.signal.state === 'pressed' && row.requested === last.requested;
      return [past ? { ...judged, effect: 'hold' } : judged];
    },
  };
}

/** PostgreSQL 17 moved the count to a view of its own. */
async function whereCounted(db: Executor): Promise<string> {
  const [server] = await db.query<{ own: boolean }>(
    `SELECT to_regclass('pg_catalog.pg_stat_checkpointer') IS NOT NULL AS own`,
  );
  return server?.own
    ? 'num_requested AS requested FROM pg_stat_checkpointer'
    : 'checkpoints_req AS requested FROM pg_stat_bgwriter';
}
