import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { HOLD_FROM, judge, notYet, READ_MS, type Reader } from '../reading.js';
import { WalClock } from './wal-clock.js';

/** Over so many seconds: batches and checkpoints' full pages come in bursts. */
const WINDOW_SECONDS = 5;

/** WAL that the whole server writes a second: what archive, network and replicas have to carry. */
export function walRate({ walBytesPerSecond }: Pick<ThrottleSettings, 'walBytesPerSecond'>): Reader | undefined {
  if (walBytesPerSecond === null) return undefined;
  const gauge = { name: 'wal_rate', unit: 'bytes/s', bound: walBytesPerSecond };
  const clock = new WalClock();
  return {
    gauges: [gauge],
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ now: number; position: number }>(
        `SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS position`,
      );
      if (!row) throw new Error('pg_current_wal_insert_lsn() gave no answer');
      clock.note(row.now, row.position);
      const rate = clock.rate(WINDOW_SECONDS);
      if (rate === undefined) return [notYet(gauge, 'a rate needs two readings')];
      return [judge(gauge, rate, { floor: FLOOR, holdFrom: HOLD_FROM })];
    },
  };
}
