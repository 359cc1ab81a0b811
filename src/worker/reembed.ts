import { listOpenMigrations } from '../catalog/migration.js';
import type { Queue } from '../queue/port.js';
import { controlMigration } from '../reembed/controller.js';
import type { ControllerDeps } from '../reembed/operation.js';

export interface ReembedderOptions extends ControllerDeps {
  readonly queue: Queue;
  readonly onError: (error: unknown) => void;
}

/** How often a process looks for migrations that want a controller, in ms. */
const POLL_MS = 1_000;
/** After a failure, so that a database that is away is not asked without end. */
const AFTER_FAILURE_MS = 2_000;

/**
 * Carries out migrations until stopped: looks for those that are open, wakes a controller for each through the queue, or
 * is one itself where the queue is out of reach. Any number of processes may do so.
 */
export async function startReembedder(options: ReembedderOptions): Promise<{ stop(): Promise<void> }> {
  const { db, queue, onError } = options;
  const stopped = new AbortController();
  const restUntil = new Map<number, number>();
  const running = new Map<number, Promise<void>>();

  async function control(id: number, signal: AbortSignal): Promise<void> {
    if (running.has(id) || signal.aborted) return;
    const run = controlMigration(options, id, AbortSignal.any([signal, stopped.signal]))
      .then((againMs) => rest(id, againMs ?? POLL_MS))
      .catch((error) => {
        rest(id, AFTER_FAILURE_MS);
        onError(error);
      });
    running.set(id, run);
    await run.finally(() => running.delete(id));
  }

  function rest(id: number, ms: number): void {
    restUntil.set(id, performance.now() + ms);
  }

  async function look(): Promise<void> {
    for (const { id, fresh } of await listOpenMigrations(db)) {
      if (stopped.signal.aborted) return;
      if (running.has(id) || (!fresh && performance.now() < (restUntil.get(id) ?? 0))) continue;
      if (!(await queue.wakeReembed({ migrationId: id }))) void control(id, stopped.signal);
    }
  }

  await queue.work({ reembed: ({ migrationId }, signal) => control(migrationId, signal) }, { concurrency: 1 });
  const polling = setInterval(() => void look().catch(onError), POLL_MS);
  await look().catch(onError);
  return {
    async stop() {
      clearInterval(polling);
      stopped.abort();
      await Promise.allSettled([queue.close(), ...running.values()]);
    },
  };
}
