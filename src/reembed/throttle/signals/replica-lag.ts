import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import {
  type Gauge,
  HOLD_FROM,
  judge,
  mayNotSee,
  READ_MS,
  type Reader,
  type Reading,
  STOP_TIMES,
  unknown,
} from '../reading.js';
import { missing, noteReplicas, type Replica, type Replicas } from './replicas-gone.js';
import { WalClock } from './wal-clock.js';

type Settings = Pick<
  ThrottleSettings,
  'replicaLagSeconds' | 'replicaLagBytes' | 'replicaGoneSeconds' | 'ignoreReplicas'
>;

/**
 * How far replicas are behind. Seconds are checked against when the primary wrote what a replica has not replayed yet:
 * replay_lag stands still with a replica that stands still, and for a while after it caught up.
 */
export function replicaLag(settings: Settings): Reader | undefined {
  const { replicaLagSeconds, replicaLagBytes, replicaGoneSeconds, ignoreReplicas } = settings;
  const gauges: Gauge[] = [];
  if (replicaLagSeconds !== null) gauges.push({ name: 'replica_lag', unit: 's', bound: replicaLagSeconds });
  if (replicaLagBytes !== null) gauges.push({ name: 'replica_lag_bytes', unit: 'bytes', bound: replicaLagBytes });
  if (gauges.length === 0) return undefined;
  const clock = new WalClock();
  const known: Replicas = new Map();

  return {
    gauges,
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<ReplicaRow>(REPLICAS, [ignoreReplicas]);
      if (!row) throw new Error('pg_stat_replication gave no answer');
      clock.note(row.now, row.written);
      // One that may not be seen has no address: it would look like another one.
      const visible = row.replicas.filter(({ state }) => state !== null);
      noteReplicas(known, visible, row.now);
      const gone = missing(known, visible, row.now, replicaGoneSeconds);
      return gauges.map((gauge) => {
        const lagOf = (replica: Seen) =>
          gauge.unit === 's' ? secondsBehind(replica, clock, row.now) : Math.max(0, row.written - replica.position);
        return worst(gauge, row, lagOf, gone);
      });
    },
  };
}

type Seen = Replica & { readonly position: number };

interface ReplicaRow extends Record<string, unknown> {
  readonly now: number;
  readonly written: number;
  readonly role: string;
  readonly replicas: readonly Replica[];
}

/** replay_lag is the finer of the two, but keeps its last value while nothing is replayed: between the clock's bounds. */
function secondsBehind({ position, seconds }: Seen, clock: WalClock, now: number): number {
  const { least, most } = clock.secondsBehind(position, now);
  return Math.min(most, Math.max(least, seconds ?? 0));
}

function worst(gauge: Gauge, row: ReplicaRow, lagOf: (replica: Seen) => number, gone: string | undefined): Reading {
  const seen = row.replicas.filter((replica): replica is Seen => replica.position !== null);
  const [first] = seen.map((replica) => ({ name: replica.name, lag: lagOf(replica) })).sort((a, b) => b.lag - a.lag);
  const reading = judge(gauge, first?.lag ?? 0, {
    floor: FLOOR,
    holdFrom: HOLD_FROM,
    stopOver: gauge.bound * STOP_TIMES,
    note: first === undefined ? 'no replica is connected' : `replica "${first.name}"`,
  });
  if (reading.signal.state === 'pressed') return reading;
  const hidden = row.replicas.find(({ state }) => state === null);
  if (hidden) return unknown(gauge, mayNotSee(`how far the replica "${hidden.name}" is`, row.role, SETTINGS));
  if (gone !== undefined) return unknown(gauge, gone);
  const silent = row.replicas.find(({ position }) => position === null);
  return silent ? unknown(gauge, `the replica "${silent.name}" has only just connected`) : reading;
}

const SETTINGS = 'replicaLagSeconds and throttle.replicaLagBytes';

/** Not those that come and go: base backups, and the first copies of a subscription's tables. */
const REPLICAS = `SELECT extract(epoch FROM clock_timestamp())::float8 AS now, current_user::text AS role,
  pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS written,
  coalesce((SELECT json_agg(json_build_object('name', r.application_name, 'address', host(r.client_addr),
      'state', r.state, 'seconds', extract(epoch FROM r.replay_lag),
      'position', pg_wal_lsn_diff(coalesce(r.replay_lsn, r.flush_lsn, r.write_lsn), '0/0')::float8))
    FROM pg_stat_replication r
    WHERE r.state IS DISTINCT FROM 'backup' AND r.application_name <> ALL ($1::text[])
      AND r.application_name <> 'pg_basebackup' AND r.application_name !~ '^pg_[0-9]+_sync_'), '[]') AS replicas`;
