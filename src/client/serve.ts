import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.js';
import { ConfigError } from '../config/errors.js';
import { loadConfig } from '../config/load.js';
import type { Log } from '../observe/log.js';
import type { Queue } from '../queue/port.js';
import type { DrainReport } from '../stages/context.js';
import { startMaintainer } from '../worker/maintain.js';
import { startReembedder } from '../worker/reembed.js';
import { startWorker } from '../worker/run.js';
import { Connection } from './connection.js';
import type { Endpoints } from './endpoints.js';
import { reembedDeps } from './reembed-deps.js';

/** `embed` keeps vectors fresh; `maintain` builds and tends indexes, vacuums, covers new partitions and sweeps; `reembed` carries out migrations. */
export type Role = 'embed' | 'maintain' | 'reembed';

/** Something that runs until it is told to stop. */
export interface Service {
  stop(): Promise<void>;
}

/** Starts something over the roles' connection, once they run. */
export type Beside = (connection: Connection) => Promise<Service>;

/** The configuration of a process of the fleet: it works on a server, never on an embedded database. */
export async function loadWorkerConfig(): Promise<Config> {
  const config = await loadConfig();
  if (config.database?.kind !== 'pglite') return config;
  throw new ConfigError(
    'config_invalid',
    'The worker processes need DATABASE_URL; an embedded database has one process: run `freshvec up --embedded`.',
  );
}

/** What closing connections may take once the roles have stopped, in ms. */
const CLOSE_MS = 1_000;

/**
 * Runs these roles in this process until `stop` aborts, then stops claiming, finishes or gives back what is in hand,
 * closes everything, and resolves within the grace time. What is not done by then is left: leases expire, and the next
 * worker goes on from there. `beside` runs along with the roles, over the same connection. With a port in `http` the
 * process tells of its metrics and health all the while.
 * Throws ConfigError, FreshvecError `schema_missing`, `schema_outdated`, `schema_too_new`, `queue_backend_mismatch`.
 */
export async function serve(
  config: Config,
  roles: readonly Role[],
  log: Log,
  stop: AbortSignal,
  beside?: Beside,
): Promise<void> {
  const connection = new Connection(config, (err) => log.warn({ err }, 'an error that was survived'));
  const graceMs = Math.max(0, config.worker.graceMs - CLOSE_MS);
  const late = aborted(stop).then(() => sleep(graceMs, 'late', { ref: false }));
  try {
    await withEndpoints(connection, log, stop, async (endpoints) => {
      const ended = await Promise.race([runRoles(connection, roles, log, stop, beside, endpoints), late]);
      if (ended === 'late') log.warn({ graceMs: config.worker.graceMs }, 'not everything stopped in time');
    });
  } finally {
    await Promise.race([connection.close(), sleep(CLOSE_MS, undefined, { ref: false })]);
  }
}

/** The same over a connection that stays open, and with no limit but the worker's own. */
export function work(connection: Connection, roles: readonly Role[], log: Log, stop: AbortSignal): Promise<void> {
  return withEndpoints(connection, log, stop, (endpoints) =>
    runRoles(connection, roles, log, stop, undefined, endpoints),
  );
}

/** With a port in `http` the process tells of its metrics and health while `run` does. */
async function withEndpoints(
  connection: Connection,
  log: Log,
  stop: AbortSignal,
  run: (endpoints: Endpoints | undefined) => Promise<void>,
): Promise<void> {
  if (connection.config.http.port === 0) return run(undefined);
  // Loaded only where it is asked for.
  const { openEndpoints } = await import('./endpoints.js');
  const endpoints = await openEndpoints(connection, log, stop);
  try {
    await run(endpoints);
  } finally {
    await endpoints.stop();
  }
}

async function runRoles(
  connection: Connection,
  roles: readonly Role[],
  log: Log,
  stop: AbortSignal,
  beside?: Beside,
  endpoints?: Endpoints,
): Promise<void> {
  const { queue, worker } = connection.config;
  log.info({ roles, queue: queue.backend, slots: worker.slots }, 'starting');
  // Until the database answers there is nothing to stop: one that is away must not hold the process up.
  await Promise.race([connection.ready(), aborted(stop)]);
  if (stop.aborted) return;
  const started = await startRoles(connection, roles, log, stop, beside, endpoints);
  if (!stop.aborted) {
    endpoints?.started();
    log.info('started');
  }
  await aborted(stop);
  log.info('stopping');
  await stopAll(started);
  log.info('stopped');
}

/** Told to stop meanwhile it starts no more of them. */
async function startRoles(
  connection: Connection,
  roles: readonly Role[],
  log: Log,
  stop: AbortSignal,
  beside?: Beside,
  endpoints?: Endpoints,
): Promise<Service[]> {
  const started: Service[] = [];
  try {
    for (const role of roles) if (!stop.aborted) started.push(await start(role, connection, log, endpoints));
    if (beside && !stop.aborted) started.push(await beside(connection));
    return started;
  } catch (error) {
    await stopAll(started);
    throw error;
  }
}

async function start(role: Role, connection: Connection, log: Log, endpoints?: Endpoints): Promise<Service> {
  const queue = await connection.queue();
  try {
    return await startOn(queue, role, connection, log, endpoints);
  } catch (error) {
    // The connection may have been closed meanwhile, by somebody who did not wait for the start.
    await queue.close();
    throw error;
  }
}

async function startOn(
  queue: Queue,
  role: Role,
  connection: Connection,
  log: Log,
  endpoints?: Endpoints,
): Promise<Service> {
  const { config, models, onError } = connection;
  const db = await connection.ready();
  const { slots, batchKeys, graceMs } = config.worker;
  if (role === 'maintain')
    return startMaintainer({
      db,
      queue,
      onError,
      schedule: config.maintenance.everyMs,
      settings: config.maintenance,
      cacheMaxBytes: config.cache.maxBytes,
    });
  if (role === 'reembed') {
    const deps = await reembedDeps(connection);
    const reembedder = await startReembedder({ ...deps, queue, onError }).catch(async (error: unknown) => {
      await deps.close();
      throw error;
    });
    return {
      async stop() {
        await reembedder.stop();
        await deps.close();
      },
    };
  }
  const onReport = (spaceId: number, report: DrainReport) => {
    log.debug({ spaceId, ...report }, 'drained');
    endpoints?.drained(spaceId, report);
  };
  return startWorker({
    db,
    queue,
    models: endpoints?.observe(models) ?? models,
    observer: endpoints?.observer,
    gates: await connection.gates(),
    cached: config.cache.maxBytes > 0,
    slots,
    batchKeys,
    graceMs,
    onError,
    onReport,
  });
}

async function stopAll(started: readonly Service[]): Promise<void> {
  await Promise.allSettled(started.map((service) => service.stop()));
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
