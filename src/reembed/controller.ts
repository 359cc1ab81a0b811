import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { asSingleton } from '../claim/singleton.js';
import { maskText } from '../config/mask.js';
import { isOfOneRow, sqlState } from '../db/errors.js';
import { advance, isOurs } from './advance.js';
import type { ControllerDeps } from './operation.js';
import { takeOver, waitFor } from './transition.js';

/** How often a controller looks whether the migration was taken from it, in ms. */
const WATCH_MS = 500;

/**
 * Works on one migration until a person is asked, it has ended, or `stop` aborts. Only one controller at a time does so
 * (a lease row), and none that slept past its lease records anything more (its token is not on the row then). Resolves
 * to the ms until somebody should look again; undefined where another controller is at work.
 */
export async function controlMigration(
  deps: ControllerDeps,
  id: number,
  stop: AbortSignal,
): Promise<number | undefined> {
  let againMs: number | undefined;
  await asSingleton(deps.db, `reembed:${id}`, async (lost) => {
    const token = randomUUID();
    againMs = 0;
    let first = true;
    while (!stop.aborted && !lost.aborted) {
      const migration = await takeOver(deps.db, id, token, first);
      if (!migration) return;
      first = false;
      const taken = new AbortController();
      const watch = setInterval(() => {
        isOurs(deps.db, migration).then(
          (ours) => ours || taken.abort(),
          () => {}, // A database that is away for a moment; every change of state compares the token anyway.
        );
      }, WATCH_MS);
      const signal = AbortSignal.any([stop, lost, taken.signal]);
      try {
        againMs = await advance(deps, migration, signal);
      } catch (error) {
        if (!signal.aborted) {
          await waitFor(deps.db, migration, reasonOf(error)).catch(() => {});
          throw error;
        }
        againMs = 0;
      } finally {
        clearInterval(watch);
      }
      if (againMs > MOST_STAY_MS) return;
      if (againMs > 0) await sleep(againMs, undefined, { signal: AbortSignal.any([stop, lost]) }).catch(() => {});
    }
  });
  return againMs;
}

/** For `reembed status`; PostgreSQL's messages on data quote the app's content. */
function reasonOf(error: unknown): string {
  const what = isOfOneRow(error)
    ? `SQLSTATE ${sqlState(error)}`
    : error instanceof Error
      ? error.message
      : String(error);
  return `it failed and is tried again: ${maskText(what)}`;
}

/** What waits for longer is looked at by whoever comes next. */
const MOST_STAY_MS = 2_000;
