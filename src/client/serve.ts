import type { Config } from '../config/config.js';
import { ConfigError } from '../config/errors.js';
import { loadConfig } from '../config/load.js';
import type { Log } from '../observe/log.js';
import { startMaintainer } from '../worker/maintain.js';
import { startWorker } from '../worker/run.js';
import { Connection } from './connection.js';

/** `embed` keeps vectors fresh; `maintain` builds indexes, covers new partitions and sweeps. */
export type Role = 'embed' | 'maintain';

interface Service {
  stop(): Promise<void>;
}

/** The configuration of a process of the fleet: it works on a server, never on an embedded database. */
export async function loadWorkerConfig(): Promise<Config> {
  const config = await loadConfig();
  if (config.database?.kind !== 'pglite') return config;
  throw new ConfigError(
    'config_invalid',
    'The worker processes need DATABASE_URL; an embedded database has one process: run `freshvec up --embedded`.',
  );
}

/**
 * Runs these roles in this process until `stop` aborts, then stops claiming, finishes or gives back what is in hand,
 * closes everything, and resolves within the grace time.
 * Throws ConfigError, FreshvecError `schema_missing`, `schema_outdated`, `schema_too_new`, `queue_backend_mismatch`.
 */
export async function serve(config: Config, roles: readonly Role[], log: Log, stop: AbortSignal): Promise<void> {
  const connection = new Connection(config, (err) => log.warn({ err }, 'an error that was survived'));
  try {
    await runRoles(connection, roles, log, stop);
  } finally {
    await withinGrace(connection.close(), config.worker.graceMs, log);
  }
}

/** The same over a connection that stays open. */
export async function runRoles(
  connection: Connection,
  roles: readonly Role[],
  log: Log,
  stop: AbortSignal,
): Promise<void> {
  const { queue, worker } = connection.config;
  const started = await startRoles(connection, roles, log);
  log.info({ roles, queue: queue.backend, slots: worker.slots }, 'started');
  await aborted(stop);
  log.info('stopping');
  await withinGrace(stopAll(started), worker.graceMs, log);
  log.info('stopped');
}

async function startRoles(connection: Connection, roles: readonly Role[], log: Log): Promise<Service[]> {
  const started: Service[] = [];
  try {
    for (const role of roles) started.push(await start(role, connection, log));
    return started;
  } catch (error) {
    await stopAll(started);
    throw error;
  }
}

async function start(role: Role, connection: Connection, log: Log): Promise<Service> {
  const { config, models, onError } = connection;
  const { slots, batchKeys, graceMs } = config.worker;
  const db = await connection.ready();
  const queue = await connection.queue();
  if (role === 'maintain') return startMaintainer({ db, queue, onError, schedule: config.maintenance.everyMs });
  const onReport = (spaceId: number, report: object) => log.debug({ spaceId, ...report }, 'drained');
  return startWorker({ db, queue, models, slots, batchKeys, graceMs, onError, onReport });
}

async function stopAll(started: readonly Service[]): Promise<void> {
  await Promise.allSettled(started.map((service) => service.stop()));
}

/** What is not done by then is left: leases expire, and the next worker goes on from there. */
async function withinGrace(stopping: Promise<void>, graceMs: number, log: Log): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), graceMs);
  });
  if ((await Promise.race([stopping, late])) === 'late') log.warn({ graceMs }, 'not everything stopped in time');
  clearTimeout(timer);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
