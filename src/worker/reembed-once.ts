import { setTimeout as sleep } from 'node:timers/promises';
import { getMigration, listOpenMigrations, type MigrationState } from '../catalog/migration.js';
import { controlMigration } from '../reembed/controller.js';
import type { ControllerDeps } from '../reembed/operation.js';

/** States in which there is something to do without a person. */
const AT_WORK: ReadonlySet<MigrationState> = new Set([
  'planned',
  'expanding',
  'backfilling',
  'indexing',
  'verifying',
  'contracting',
]);

/** A controller that is to look again after longer than this waits for something that does not come by itself. */
const PATIENCE_MS = 2_000;
const BETWEEN_DRAINS_MS = 50;

/**
 * Carries every open migration on, as far as it goes without a person; `drain` does the workers' part meanwhile. Resolves
 * at once where there is none. No controller is at work any more once it has ended, whatever it ended with.
 */
export async function reembedOnce(
  deps: ControllerDeps,
  drain: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  const open = await listOpenMigrations(deps.db);
  if (open.length === 0) return;
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  let over = false;
  const controllers = open.map(({ id }) => control(deps, id, stop));
  const controlling = Promise.all(controllers).finally(() => {
    over = true;
  });
  controlling.catch(() => {}); // Seen where it is awaited.
  try {
    while (!over && !signal.aborted) {
      await drain();
      await sleep(BETWEEN_DRAINS_MS, undefined, { signal }).catch(() => {});
    }
    await controlling;
  } finally {
    failed.abort();
    await Promise.allSettled(controllers);
  }
}

async function control(deps: ControllerDeps, id: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const againMs = await controlMigration(deps, id, signal);
    const now = await getMigration(deps.db, id);
    if (!now || now.paused || !AT_WORK.has(now.state) || (againMs ?? 0) > PATIENCE_MS) return;
    await sleep(Math.max(againMs ?? PATIENCE_MS, 20), undefined, { signal }).catch(() => {});
  }
}
