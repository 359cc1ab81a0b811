import type { Database } from '../db/database.js';
import { buildIndexes } from '../maintenance/build-indexes.js';
import { coverLeaves } from '../maintenance/cover-leaves.js';
import { sweep } from '../maintenance/sweep.js';
import type { MaintenanceService, Queue } from '../queue/port.js';
import type { BuildProgress } from '../store/build-index.js';

/** How often each service runs, in ms. */
export type MaintenanceSchedule = Readonly<Record<MaintenanceService, number>>;

export const DEFAULT_SCHEDULE: MaintenanceSchedule = {
  index: 10_000,
  leaves: 60_000,
  sweep: 3_600_000,
};

export interface MaintainerOptions {
  readonly db: Database;
  readonly queue: Queue;
  readonly schedule?: Partial<MaintenanceSchedule> | undefined;
  readonly onError: (error: unknown) => void;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** How often the schedules are ensured: a Redis that was emptied has forgotten them. */
const ENSURE_MS = 30_000;

/** Consumes the maintenance schedules until stopped. */
export async function startMaintainer(options: MaintainerOptions): Promise<{ stop(): Promise<void> }> {
  const { db, queue, onError } = options;
  const schedule = { ...DEFAULT_SCHEDULE, ...options.schedule };
  const ensure = () => queue.schedule(schedule).catch(onError);
  const services: Record<MaintenanceService, (signal: AbortSignal) => Promise<unknown>> = {
    index: (signal) => buildIndexes(db, { signal, ...(options.onProgress && { onProgress: options.onProgress }) }),
    leaves: () => coverLeaves(db),
    sweep: () => sweep(db),
  };
  await queue.work(
    {
      maintain: async (service, signal) => {
        await services[service](signal).catch(onError);
      },
    },
    { concurrency: 1 },
  );
  await ensure();
  const timer = setInterval(ensure, ENSURE_MS);
  return {
    async stop() {
      clearInterval(timer);
      await queue.close();
    },
  };
}

/** One round of what cannot wait for a schedule: `work --once` ends with it. */
export async function maintainOnce(options: {
  readonly db: Database;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: BuildProgress) => void;
}): Promise<void> {
  await coverLeaves(options.db);
  await buildIndexes(options.db, options);
}
