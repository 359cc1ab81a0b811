import type { ThrottleSettings } from '../../../config/throttle.js';
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
  let marks: { now: number; requested: number }[] = [];
  return {
    gauges: [gauge],
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ now: number; requested: number }>(
        `SELECT extract(epoch FROM clock_timestamp())::float8 AS now, num_requested AS requested FROM pg_stat_checkpointer`,
      );
      if (!row) throw new Error('pg_stat_checkpointer gave no answer');
      const last = marks.at(-1);
      if (last === undefined || row.requested < last.requested) {
        marks = [row]; // Begun, or the statistics were reset.
        return [notYet(gauge, 'a count needs two readings')];
      }
      marks = [...marks, row].filter(({ now }) => now >= row.now - WINDOW_SECONDS);
      const reading = judge(gauge, row.requested - (marks[0] ?? row).requested, {
        floor: FLOOR,
        why: 'WAL reaches max_wal_size before checkpoint_timeout: raise max_wal_size, or let it take longer',
      });
      // Each slows down once: for the rest of the minute it is past, and cannot be helped.
      const past = reading.signal.state === 'pressed' && row.requested === last.requested;
      return [past ? { ...reading, effect: 'hold' } : reading];
    },
  };
}
