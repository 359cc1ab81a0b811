import { asSingleton } from '../claim/singleton.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { describeError } from '../observe/log.js';
import type { MaintenanceService } from '../queue/port.js';
import type { BuildProgress } from '../store/build-progress.js';
import { analyze } from './analyze.js';
import { buildIndexes } from './build-indexes.js';
import { coverLeaves } from './cover-leaves.js';
import { evictCache } from './evict-cache.js';
import { listPauses, pauseFor } from './pauses.js';
import { reindex } from './reindex.js';
import { BusyError, endInterrupted, isAbort, logAfterwards } from './run-log.js';
import { sweep } from './sweep.js';
import { vacuum } from './vacuum.js';
import { inWindow } from './window.js';

/** What a person can set of maintenance. */
export interface MaintenanceSettings {
  /** When heavy services may begin, `22:00-06:00`; undefined: at any time. */
  readonly window: string | undefined;
  readonly timeZone: string;
  readonly lockTimeoutMs: number;
  readonly bloatRatio: number;
  readonly recallTarget: number;
}

/** As `config` has them. */
export const DEFAULT_MAINTENANCE: MaintenanceSettings = {
  window: undefined,
  timeZone: 'UTC',
  lockTimeoutMs: 600_000,
  bloatRatio: 1.5,
  recallTarget: 0.95,
};

export interface ServiceContext {
  readonly db: Database;
  readonly settings: MaintenanceSettings;
  /** Bytes that the embedding cache may take; it is left alone where nothing is said. */
  readonly cacheMaxBytes?: number | undefined;
  /** Asked for by a person: at any time, but not against a pause. */
  readonly byPerson: boolean;
  /** One source; all of them unless told. */
  readonly source?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

interface ServiceEntry {
  /** How often it runs unless told otherwise, in ms. */
  readonly everyMs: number;
  /** Takes long or loads the database: within the window, one at a time in the whole fleet. */
  readonly heavy: boolean;
  /** May take hours, heavy or not: other services do not wait for it. */
  readonly long: boolean;
  /** Knows of sources. */
  readonly perSource: boolean;
  /** Resolves to how many things it did. */
  run(context: ServiceContext): Promise<number>;
  /** What it did, for the log; absent where it logs each by itself. */
  readonly did?: (count: number) => string;
}

export const SERVICES: Readonly<Record<MaintenanceService, ServiceEntry>> = {
  index: {
    ...{ everyMs: 10_000, heavy: false, long: true, perSource: true },
    run: ({ db, ...options }) => buildIndexes(db, options),
  },
  cache: {
    ...{ everyMs: 10_000, heavy: false, long: false, perSource: false },
    run: async ({ db, cacheMaxBytes, signal }) =>
      cacheMaxBytes === undefined ? 0 : evictCache(db, cacheMaxBytes, signal),
    did: () => 'deleted the oldest cached vectors, down to the bound',
  },
  leaves: {
    ...{ everyMs: 60_000, heavy: false, long: false, perSource: true },
    run: ({ db, source }) => coverLeaves(db, source),
    did: (count) => `put capture on partitions, or its triggers right, of ${count} sources`,
  },
  sweep: {
    ...{ everyMs: 3_600_000, heavy: false, long: false, perSource: true },
    run: ({ db, source }) => sweep(db, source),
    did: (count) => `has every row of ${count} spaces looked at`,
  },
  analyze: {
    ...{ everyMs: 600_000, heavy: true, long: true, perSource: true },
    run: ({ db, settings, ...options }) => analyze(db, { ...options, ...settings }),
  },
  vacuum: {
    ...{ everyMs: 600_000, heavy: true, long: true, perSource: true },
    run: ({ db, settings, ...options }) => vacuum(db, { ...options, ...settings }),
  },
  reindex: {
    ...{ everyMs: 3_600_000, heavy: true, long: true, perSource: true },
    run: ({ db, settings, ...options }) => reindex(db, { ...options, ...settings }),
  },
};

export const SERVICE_NAMES = Object.keys(SERVICES) as MaintenanceService[];
export const HEAVY_SERVICES = SERVICE_NAMES.filter((name) => SERVICES[name].heavy);

/** What came of one turn of a service. */
export type Turn = 'done' | 'nothing' | 'paused' | 'outside_window' | 'busy';

/**
 * Gives a service one turn: not while it is paused, heavy ones only in the window and as the only one of the fleet.
 * Throws what it failed with, and FreshvecError `maintenance_request_invalid` for a source where there are none.
 */
export async function runService(name: MaintenanceService, context: ServiceContext): Promise<Turn> {
  const { db, settings, byPerson, source } = context;
  const { heavy, perSource } = SERVICES[name];
  if (source !== undefined && !perSource) {
    throw new FreshvecError(
      'maintenance_request_invalid',
      `The service "${name}" has no sources: leave --source away.`,
    );
  }
  if (pauseFor(await listPauses(db), name)) return 'paused';
  if (!heavy) return take(name, context);
  if (!byPerson && !inWindow(settings.window, settings.timeZone, await now(db))) return 'outside_window';
  let turn: Turn = 'busy';
  await asOnlyHeavy(db, async (lost) => {
    const signal = context.signal ? AbortSignal.any([lost, context.signal]) : lost;
    turn = await take(name, { ...context, signal });
  });
  return turn;
}

/** Runs `fn` as the only heavy maintenance of the fleet; resolves to false while there is another. */
export function asOnlyHeavy(db: Database, fn: (lost: AbortSignal) => Promise<void>): Promise<boolean> {
  return asSingleton(db, 'maintain', async (lost) => {
    await endInterrupted(db, HEAVY_SERVICES);
    await fn(lost);
  });
}

/** Throws BusyError with what is under way. */
export async function refuseBusy(db: Executor): Promise<never> {
  const [run] = await db.query<{ what: string }>(
    `SELECT concat_ws(' ', service, relation, did) AS what FROM freshvec.maintenance_run WHERE outcome = 'running'
     ORDER BY id DESC LIMIT 1`,
  );
  throw new BusyError(
    `Other maintenance is under way${run ? ` (${run.what})` : ''}, and heavy work is done one at a time: see \`freshvec maintain list\`.`,
  );
}

async function take(name: MaintenanceService, context: ServiceContext): Promise<Turn> {
  const { db, byPerson, source } = context;
  const { run, did, heavy } = SERVICES[name];
  await begin(db, name);
  try {
    const count = await run(context);
    if (did && count > 0) await logAfterwards(db, { service: name, byPerson, source, did: did(count) }, 'done');
    await end(db, name, count > 0 ? 'done' : 'nothing');
    return count > 0 ? 'done' : 'nothing';
  } catch (error) {
    await end(db, name, isAbort(error) ? 'interrupted' : 'failed').catch(() => {});
    // What fails in a heavy service is a run of its own in the log.
    if (!heavy && !isAbort(error)) {
      const { message } = describeError(error);
      await logAfterwards(db, { service: name, byPerson, source, did: 'failed' }, 'failed', message).catch(() => {});
    }
    throw error;
  }
}

/** The server's clock, as everywhere. */
async function now(db: Executor): Promise<Date> {
  const [row] = await db.query<{ now: Date }>('SELECT clock_timestamp() AS now');
  return row?.now ?? new Date();
}

async function begin(db: Executor, service: string): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.maintenance_service (service, started_at, outcome) VALUES ($1, clock_timestamp(), 'running')
     ON CONFLICT (service) DO UPDATE SET started_at = excluded.started_at, ended_at = NULL, outcome = 'running'`,
    [service],
  );
}

async function end(db: Executor, service: string, outcome: string): Promise<void> {
  await db.query(
    'UPDATE freshvec.maintenance_service SET ended_at = clock_timestamp(), outcome = $2 WHERE service = $1',
    [service, outcome],
  );
}
