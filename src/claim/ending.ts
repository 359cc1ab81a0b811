import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Executor } from '../db/database.js';

/** How often somebody who is at it for long looks whether the space is still wanted, in ms. */
const LOOK_MS = 1_000;

/** SQL over the parameter: the space is to be dropped, or gone. A migration says so before it has what that takes. */
export const endsSql = (spaceId: string) =>
  `(NOT EXISTS (SELECT FROM freshvec.space s WHERE s.id = ${spaceId} AND s.state <> 'dropped')
       OR EXISTS (SELECT FROM freshvec.migration m
         WHERE m.drop_space = ${spaceId} AND COALESCE(m.parked_state, m.state) = 'contracting'))`;

/**
 * Runs what takes long and is done for the space alone; its signal aborts once the space is to be dropped. Who drops it
 * would wait for all of it: for its locks, and for what it leaves behind.
 */
export async function whileWanted<T>(db: Database, spaceId: number, fn: (ends: AbortSignal) => Promise<T>): Promise<T> {
  const ends = new AbortController();
  const done = new AbortController();
  // The embedded database's one connection is taken, and nothing could be cancelled there.
  if (db.kind !== 'pglite') void watch(db, spaceId, ends, done.signal);
  try {
    return await fn(ends.signal);
  } finally {
    done.abort();
  }
}

async function watch(db: Executor, spaceId: number, ends: AbortController, done: AbortSignal): Promise<void> {
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal: done }).catch(() => {});
    if (done.aborted) return;
    // Whoever cannot ask looks again.
    const [row] = await db.query<{ ends: boolean }>(`SELECT ${endsSql('$1')} AS ends`, [spaceId]).catch(() => []);
    if (row?.ends) return ends.abort();
  }
}
