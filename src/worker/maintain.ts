import type { Database } from '../db/database.js';
import { buildIndexes } from '../maintenance/build-indexes.js';
import { coverLeaves } from '../maintenance/cover-leaves.js';
import { evictCache } from '../maintenance/evict-cache.js';
import { sweep } from '../maintenance/sweep.js';
import type { MaintenanceService, Queue } from '../queue/port.js';
import type { BuildProgress } from '../store/build-index.js';

/** How often each service runs, in ms. */
export type MaintenanceSchedule = Readonly<Record<MaintenanceService, number>>;

export const DEFAULT_SCHEDULE: MaintenanceSchedule = {
  index: 10_000,
  cache: 10_000,
  leaves: 60_000,
  sweep: 3_600_000,
};

export interface MaintainerOptions {
  readonly db: Database;
  readonly queue: Queue;
  readonly schedule?: Partial<MaintenanceSchedule> | undefined;
  readonly onError: (error: unknown) => void;
  /** Bytes that the embedding cache may take; it is left alone where nothing is said. */
  readonly cacheMaxBytes?: number | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** How often the schedules are ensured: a Redis that was emptied has forgotten them. */
const ENSURE_MS = 30_000;

/** Consumes the maintenance schedules until stopped. */
export async function startMaintainer(options: MaintainerOptions): Promise<{ stop(): Promise<void> }> {
  const { db, queue, cacheMaxBytes, onError } = options;
  const schedule = { ...DEFAULT_SCHEDULE, ...options.schedule };
  const ensure = () => queue.schedule(schedule).catch(onError);
  const services: Record<MaintenanceService, (signal: AbortSignal) => Promise<unknown>> = {
    index: (signal) => buildIndexes(db, { signal, ...(options.onProgress && { onProgress: options.onProgress }) }),
    leaves: () => coverLeaves(db),
    cache: async (signal) => (cacheMaxBytes === undefined ? 0 : evictCache(db, cacheMaxBytes, signal)),
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
  readonly cacheMaxBytes?: number | undefined;
  readonly onProgress?: (progress: BuildProgress) => void;
}): Promise<void> {
  const { db, signal, cacheMaxBytes } = options;
  await coverLeaves(db);
  if (cacheMaxBytes !== undefined) await evictCache(db, cacheMaxBytes, signal);
  await buildIndexes(db, options);
}
