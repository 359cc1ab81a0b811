import type { Config } from '../config/config.js';
import { ConfigError } from '../config/errors.js';
import { loadConfig } from '../config/load.js';
import type { Log } from '../observe/log.js';
import { startMaintainer } from '../worker/maintain.js';
import { startWorker } from '../worker/run.js';
import { Connection } from './connection.js';

/** `embed` keeps vectors fresh; `maintain` builds indexes, covers new partitions and sweeps. */
export type Role = 'embed' | 'maintain';

export interface Service {
  /** Stops claiming, finishes or gives back what is in hand, closes everything; resolves within the grace time. */
  stop(): Promise<void>;
}

/**
 * Starts these roles in this process.
 * Throws ConfigError, FreshvecError `schema_missing`, `schema_outdated`, `schema_too_new`, `queue_backend_mismatch`.
 */
export async function serve(config: Config, roles: readonly Role[], log: Log): Promise<Service> {
  const connection = new Connection(config, (err) => log.warn({ err }, 'an error that was survived'));
  try {
    const started = await startRoles(connection, roles, log);
    log.info({ roles, queue: config.queue.backend, slots: config.worker.slots }, 'started');
    return { stop: () => withinGrace(stopAll(connection, started), config.worker.graceMs, log) };
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** Runs connected roles until the signal aborts. */
export async function serveUntil(config: Config, roles: readonly Role[], log: Log, stop: AbortSignal): Promise<void> {
  const service = await serve(config, roles, log);
  await aborted(stop);
  log.info('stopping');
  await service.stop();
  log.info('stopped');
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

async function startRoles(connection: Connection, roles: readonly Role[], log: Log): Promise<Service[]> {
  const { config, onError, models } = connection;
  const { slots, batchKeys, graceMs } = config.worker;
  const started: Service[] = [];
  try {
    for (const role of roles) {
      const [db, queue] = [await connection.ready(), await connection.queue()];
      if (role === 'maintain') {
        started.push(await startMaintainer({ db, queue, onError, schedule: config.maintenance.everyMs }));
        continue;
      }
      const onReport = (spaceId: number, report: object) => log.debug({ spaceId, ...report }, 'drained');
      started.push(await startWorker({ db, queue, models, slots, batchKeys, graceMs, onError, onReport }));
    }
    return started;
  } catch (error) {
    await Promise.allSettled(started.map((service) => service.stop()));
    throw error;
  }
}

async function stopAll(connection: Connection, started: readonly Service[]): Promise<void> {
  await Promise.allSettled(started.map((service) => service.stop()));
  await connection.close();
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
