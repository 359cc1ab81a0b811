import { setTimeout as sleep } from 'node:timers/promises';
import type { Executor } from './database.js';

/**
 * A session that builds an index of one of these tables, or of a partition of theirs, just now: its process id. PostgreSQL
 * hides from most roles which table another role's build is at, but not which locks it holds.
 */
export async function findBuild(db: Executor, tables: readonly number[]): Promise<number | undefined> {
  const [build] = await db.query<{ pid: number }>(
    `SELECT p.pid FROM pg_stat_progress_create_index p JOIN pg_locks l ON l.pid = p.pid
     WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock')
       AND p.datname = current_database() AND l.database = p.datid AND l.relation IN (
         SELECT t::oid FROM unnest($1::int8[]) t
         UNION SELECT relid FROM unnest($1::int8[]) t, pg_partition_tree(t::oid::regclass))
     LIMIT 1`,
    [tables],
  );
  return build?.pid;
}

const LOOK_MS = 500;

/**
 * Resolves once nobody builds an index of the table. A build waits, at its end, for the snapshots of those that queue
 * behind it: one of the two would fail.
 */
export async function noBuild(db: Executor, table: number, signal: AbortSignal | undefined): Promise<void> {
  while ((await findBuild(db, [table])) !== undefined) await sleep(LOOK_MS, undefined, { signal });
}
