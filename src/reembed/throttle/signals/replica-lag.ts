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
 * replay_lag stands still with a replica that stands still, and for a while after it caught up. Who only receives WAL has
 * none: it speaks of its position once in a while, and not at all while nothing is written.
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
      // A receiver that goes away leaves nobody behind; what it must be sent is kept by its slot.
      noteReplicas(
        known,
        visible.filter(({ receives }) => !receives),
        row.now,
      );
      const gone = missing(known, visible, row.now, replicaGoneSeconds);
      return gauges.map((gauge) => {
        const lagOf = (replica: Seen) =>
          gauge.unit === 's' ? secondsBehind(replica, clock, row.now) : Math.max(0, row.written - replica.position);
        return worst(gauge, row, lagOf, gone);
      });
    },
  };
}

/** A connection of `pg_stat_replication`. */
interface Connected extends Replica {
  /** It replays nothing: an archive (`pg_receivewal`), or a reader of a logical slot, which confirms when it likes. */
  readonly receives: boolean;
}

type Seen = Connected & { readonly position: number };

interface ReplicaRow extends Record<string, unknown> {
  readonly now: number;
  readonly written: number;
  readonly role: string;
  readonly replicas: readonly Connected[];
}

/** replay_lag is the finer of the two, but keeps its last value while nothing is replayed: between the clock's bounds. */
function secondsBehind({ position, seconds }: Seen, clock: WalClock, now: number): number {
  const { least, most } = clock.secondsBehind(position, now);
  return Math.min(most, Math.max(least, seconds ?? 0));
}

function worst(gauge: Gauge, row: ReplicaRow, lagOf: (replica: Seen) => number, gone: string | undefined): Reading {
  const judged = row.replicas.filter(({ receives }) => gauge.unit !== 's' || !receives);
  const seen = judged.filter((replica): replica is Seen => replica.position !== null);
  const [first] = seen.map((replica) => ({ ...replica, lag: lagOf(replica) })).sort((a, b) => b.lag - a.lag);
  const reading = judge(gauge, first?.lag ?? 0, {
    floor: FLOOR,
    holdFrom: HOLD_FROM,
    stopOver: gauge.bound * STOP_TIMES,
    note: first === undefined ? noReplica(row.replicas) : described(first),
  });
  if (reading.signal.state === 'pressed') return reading;
  const hidden = judged.find(({ state }) => state === null);
  if (hidden) return unknown(gauge, mayNotSee(`how far the replica "${hidden.name}" is`, row.role, SETTINGS));
  if (gone !== undefined) return unknown(gauge, gone);
  const silent = judged.find(({ position, receives }) => position === null && !receives);
  return silent ? unknown(gauge, `the replica "${silent.name}" has only just connected`) : reading;
}

function described({ name, receives }: Seen): string {
  return receives ? `"${name}", which only receives WAL: what its slot keeps is slot_wal's` : `replica "${name}"`;
}

function noReplica(connected: readonly Connected[]): string {
  const receiver = connected.find(({ receives }) => receives);
  return `no replica is connected${receiver ? `; "${receiver.name}" only receives WAL, and has no lag in seconds` : ''}`;
}

const SETTINGS = 'replicaLagSeconds and throttle.replicaLagBytes';

/**
 * Not those that come and go: base backups, and the first copies of a subscription's tables. What a receiver has flushed
 * moves by whole files of WAL, what it has written every ten seconds.
 */
const REPLICAS = `SELECT extract(epoch FROM clock_timestamp())::float8 AS now, current_user::text AS role,
  pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS written,
  coalesce((SELECT json_agg(json_build_object('name', r.application_name, 'address', host(r.client_addr),
      'state', r.state, 'seconds', extract(epoch FROM r.replay_lag), 'receives', k.receives,
      'position', pg_wal_lsn_diff(CASE WHEN k.receives THEN r.write_lsn
        ELSE coalesce(r.replay_lsn, r.flush_lsn, r.write_lsn) END, '0/0')::float8))
    FROM pg_stat_replication r CROSS JOIN LATERAL (
      SELECT coalesce(r.state IN ('catchup', 'streaming') AND r.replay_lsn IS NULL, false)
        OR r.pid IN (SELECT s.active_pid FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND s.active) AS receives) k
    WHERE r.state IS DISTINCT FROM 'backup' AND r.application_name <> ALL ($1::text[])
      AND r.application_name <> 'pg_basebackup' AND r.application_name !~ '^pg_[0-9]+_sync_'), '[]') AS replicas`;
