import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';

export interface LockWatch {
  /** Whose waits are looked at: connections of this application_name; everybody's unless told. */
  readonly of?: string;
  /** Between two looks, in ms: what waits for less may go unseen. */
  readonly lookMs: number;
}

/** A wait for a lock, and for a person what it was for and who held it. */
export interface LockWait {
  readonly ms: number;
  readonly why: string;
}

/** What is waited for locks, apart from processor and disk: the longest wait seen by a look every few ms. */
export function watchLocks(client: Client, { of, lookMs }: LockWatch): Watch<LockWait> {
  let longest: LockWait = { ms: 0, why: 'none seen' };
  return watch(lookMs, async () => {
    const { rows } = await client.query<LockWait>({
      name: 'locks',
      text: `SELECT (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::float8 AS ms,
          concat_ws(' ', l.locktype, l.mode, 'behind', (
            SELECT string_agg(concat_ws(' ', b.backend_type, b.application_name, left(regexp_replace(b.query, '\\s+', ' ', 'g'), 60)), '; ')
            FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(l.pid)))) AS why
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.waitstart IS NOT NULL AND ($1::text IS NULL OR a.application_name = $1)
        ORDER BY l.waitstart LIMIT 1`,
      values: [of ?? null],
    });
    const [wait] = rows;
    if (wait && wait.ms > longest.ms) longest = wait;
    return longest;
  });
}

export interface Lag {
  /** Unix time of the look, in ms. */
  readonly at: number;
  readonly seconds: number;
  readonly bytes: number;
}

/** How far the furthest replica is behind, by a look every few ms. */
export function watchLag(client: Client, lookMs: number): Watch<readonly Lag[]> {
  const seen: Lag[] = [];
  return watch(lookMs, async () => {
    const { rows } = await client.query<{ replicas: string; seconds: number; bytes: number }>({
      name: 'lag',
      text: `SELECT count(*) AS replicas, coalesce(extract(epoch FROM max(replay_lag)), 0)::float8 AS seconds,
          coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::float8 AS bytes
        FROM pg_stat_replication WHERE state = 'streaming'`,
    });
    const { replicas, seconds, bytes } = rows[0] ?? { replicas: '0', seconds: 0, bytes: 0 };
    // One that fell off is as far behind as can be.
    const gone = Number(replicas) === 0;
    seen.push({ at: Date.now(), seconds: gone ? Infinity : seconds, bytes: gone ? Infinity : bytes });
    return seen;
  });
}

export interface Watch<T> {
  /** Ends it, and resolves to what was seen. */
  stop(): Promise<T>;
}

function watch<T>(everyMs: number, look: () => Promise<T>): Watch<T> {
  const stopped = new AbortController();
  const loop = (async () => {
    for (;;) {
      const seen = await look();
      if (stopped.signal.aborted) return seen;
      await sleep(everyMs, undefined, { signal: stopped.signal }).catch(() => {});
    }
  })();
  loop.catch(() => {}); // Seen where it is stopped.
  return {
    stop() {
      stopped.abort();
      return loop;
    },
  };
}
