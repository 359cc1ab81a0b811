import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';

export interface LockWatch {
  /** Whose waits are looked at: connections of this application_name; everybody's unless told. */
  readonly of?: string;
  /** Between two looks, in ms: what waits for less may go unseen. */
  readonly lookMs: number;
}

/** What is waited for locks, apart from processor and disk: the longest wait seen by a look every few ms. */
export function watchLocks(client: Client, { of, lookMs }: LockWatch): Watch<number> {
  let longest = 0;
  return watch(lookMs, async () => {
    const { rows } = await client.query<{ ms: number | null }>({
      name: 'locks',
      text: `SELECT (extract(epoch FROM max(clock_timestamp() - l.waitstart)) * 1000)::float8 AS ms FROM pg_locks l
        WHERE NOT l.granted AND ($1::text IS NULL OR EXISTS (
          SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.application_name = $1))`,
      values: [of ?? null],
    });
    longest = Math.max(longest, rows[0]?.ms ?? 0);
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
