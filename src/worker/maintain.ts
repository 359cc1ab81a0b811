import type { Database } from '../db/database.js';
import { buildIndexes } from '../maintenance/build-indexes.js';
import { coverLeaves } from '../maintenance/cover-leaves.js';
import { evictCache } from '../maintenance/evict-cache.js';
import { listPauses, pauseFor } from '../maintenance/pauses.js';
import { isAbort } from '../maintenance/run-log.js';
import {
  DEFAULT_MAINTENANCE,
  type MaintenanceSettings,
  runService,
  SERVICE_NAMES,
  SERVICES,
} from '../maintenance/services.js';
import type { MaintenanceService, Queue } from '../queue/port.js';
import type { BuildProgress } from '../store/build-progress.js';

/** How often each service runs, in ms. */
export type MaintenanceSchedule = Readonly<Record<MaintenanceService, number>>;

export const DEFAULT_SCHEDULE = Object.fromEntries(
  SERVICE_NAMES.map((name) => [name, SERVICES[name].everyMs]),
) as MaintenanceSchedule;

export interface MaintainerOptions {
  readonly db: Database;
  readonly queue: Queue;
  readonly schedule?: Partial<MaintenanceSchedule> | undefined;
  readonly settings?: MaintenanceSettings | undefined;
  readonly onError: (error: unknown) => void;
  /** Bytes that the embedding cache may take; it is left alone where nothing is said. */
  readonly cacheMaxBytes?: number | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** How often the schedules are ensured: a Redis that was emptied has forgotten them. */
const ENSURE_MS = 30_000;

/** Consumes the maintenance schedules until stopped. */
export async function startMaintainer(options: MaintainerOptions): Promise<{ stop(): Promise<void> }> {
  const { db, queue, cacheMaxBytes, onError, onProgress, settings = DEFAULT_MAINTENANCE } = options;
  const schedule = { ...DEFAULT_SCHEDULE, ...options.schedule };
  const ensure = () => queue.schedule(schedule).catch(onError);
  const stopped = new AbortController();
  const long = new Map<MaintenanceService, Promise<void>>();
  const turn = async (service: MaintenanceService, signal: AbortSignal) => {
    try {
      await runService(service, { db, settings, cacheMaxBytes, byPerson: false, signal, onProgress });
    } catch (error) {
      if (!isAbort(error)) onError(error);
    }
  };
  await queue.work(
    {
      maintain: async (service, signal) => {
        if (!SERVICES[service]?.long) return turn(service, signal);
        // The queue hands over one job at a time. One that is still at it needs no second turn.
        if (long.has(service)) return;
        const run = turn(service, stopped.signal).finally(() => long.delete(service));
        long.set(service, run);
      },
    },
    { concurrency: 1 },
  );
  await ensure();
  const timer = setInterval(ensure, ENSURE_MS);
  return {
    async stop() {
      clearInterval(timer);
      stopped.abort();
      await Promise.all([queue.close(), ...long.values()]);
    },
  };
}

/** One round of what cannot wait for a schedule and is not paused: `work --once` ends with it. */
export async function maintainOnce(options: {
  readonly db: Database;
  readonly signal?: AbortSignal;
  readonly cacheMaxBytes?: number | undefined;
  readonly onProgress?: (progress: BuildProgress) => void;
}): Promise<void> {
  const { db, signal, cacheMaxBytes } = options;
  const pauses = await listPauses(db);
  const may = (service: MaintenanceService) => pauseFor(pauses, service) === undefined;
  if (may('leaves')) await coverLeaves(db);
  if (cacheMaxBytes !== undefined && may('cache')) await evictCache(db, cacheMaxBytes, signal);
  if (may('index')) await buildIndexes(db, options);
}
