import type { Database, Executor } from '../db/database.js';

/** What a build waits for or works on, for people to read. */
export interface BuildProgress {
  readonly index: string;
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  /** Backend whose transaction holds the build up; undefined while it is not held up. */
  readonly waitsForPid: number | undefined;
}

const PROGRESS_MS = 500;

/** Runs a build and reports its progress, and whom it waits for, from another connection. */
export async function watched(
  db: Database,
  relation: number,
  index: string,
  { onProgress }: { readonly onProgress?: ((progress: BuildProgress) => void) | undefined },
  build: () => Promise<unknown>,
): Promise<void> {
  // The embedded database has one connection, which is busy building.
  if (!onProgress || db.kind === 'pglite') return void (await build());
  const timer = setInterval(() => {
    progress(db, relation, index).then(
      (now) => now && onProgress(now),
      () => {},
    );
  }, PROGRESS_MS);
  try {
    await build();
  } finally {
    clearInterval(timer);
  }
}

async function progress(db: Executor, relation: number, index: string): Promise<BuildProgress | undefined> {
  const [row] = await db.query<{ phase: string; done: number; total: number; pid: number | null }>(
    `SELECT phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END AS done,
       CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END AS total,
       NULLIF(current_locker_pid, 0)::int8 AS pid
     FROM pg_stat_progress_create_index WHERE relid = $1::int8::oid AND datname = current_database()`,
    [relation],
  );
  return row && { index, phase: row.phase, done: row.done, total: row.total, waitsForPid: row.pid ?? undefined };
}
