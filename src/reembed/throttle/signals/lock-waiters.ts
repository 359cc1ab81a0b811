import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { type Gauge, HOLD_FROM, judge, READ_MS, type Reader } from '../reading.js';
import { RELATIONS } from './relations.js';

type Settings = Pick<ThrottleSettings, 'lockWaiters' | 'lockWaitMs'>;

/**
 * Who waits for a lock on the backfill's tables, and for how long. Of those that wait for a row, the first waits for the
 * transaction that holds it and meanwhile holds the row's tuple lock; the others wait for that (lmgr's README.tuplock).
 * Maintenance that waits for other maintenance (SHARE UPDATE EXCLUSIVE) does not wait for a backfill. pg_locks is open to
 * every role.
 */
export function lockWaiters({ lockWaiters, lockWaitMs }: Settings, relations: readonly number[]): Reader | undefined {
  const waiters: Gauge | undefined =
    lockWaiters === null ? undefined : { name: 'lock_waiters', unit: 'waiting', bound: lockWaiters };
  const wait: Gauge | undefined =
    lockWaitMs === null ? undefined : { name: 'lock_wait', unit: 'ms', bound: lockWaitMs };
  const gauges = [waiters, wait].filter((gauge) => gauge !== undefined);
  if (gauges.length === 0) return undefined;
  return {
    gauges,
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ count: number; ms: number; pid: number | null }>(WAITING, [
        relations,
      ]);
      const { count = 0, ms = 0, pid = null } = row ?? {};
      const note = pid === null ? undefined : `process ${pid} waits longest`;
      return gauges.map((gauge) =>
        judge(gauge, gauge === wait ? ms : count, { floor: FLOOR, holdFrom: HOLD_FROM, note }),
      );
    },
  };
}

const WAITING = `${RELATIONS}, waiting AS (
  SELECT l.pid, coalesce(extract(epoch FROM clock_timestamp() - l.waitstart) * 1000, 0) AS ms
  FROM pg_locks l
  WHERE NOT l.granted AND l.mode <> 'ShareUpdateExclusiveLock'
    AND (l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.relation IN (SELECT oid FROM rel)
      OR l.locktype = 'transactionid' AND EXISTS (
        SELECT FROM pg_locks t WHERE t.pid = l.pid AND t.locktype = 'tuple' AND t.granted
          AND t.relation IN (SELECT oid FROM rel))))
SELECT count(DISTINCT pid)::int AS count, coalesce(max(ms), 0)::float8 AS ms,
  (SELECT pid FROM waiting ORDER BY ms DESC LIMIT 1) AS pid FROM waiting`;
