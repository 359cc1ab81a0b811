import { Redis } from 'ioredis';
import pg from 'pg';
import { composeUp } from './servers/compose.js';
import { dockerAnswers } from './servers/dockerEngine.js';
import { startPostgres } from './servers/postgres.js';
import { startRedis } from './servers/redis.js';

export { type PgBouncer, startPgBouncer } from './servers/pgbouncer.js';
export {
  type PostgresOptions,
  type PostgresServer,
  type PostgresSettings,
  type StopMode,
  startPostgres,
} from './servers/postgres.js';
export { type RedisOptions, type RedisServer, type RedisSettings, startRedis } from './servers/redis.js';

export interface Servers {
  readonly postgresUrl: string;
  readonly redisUrl: string;
  /** Which servers these are, for a person: versions and where they come from. */
  readonly description: string;
  /** Ends those that were started for us. */
  stop(): Promise<void>;
}

interface Source {
  readonly url: string;
  readonly from: string;
  readonly stop?: () => Promise<void>;
}

/**
 * Real servers for a run, each from the first of: the environment, a Docker engine that answers, a private Debian 13
 * tree. Also for benches; a test that breaks its server starts one of its own.
 */
export async function getServers(env: NodeJS.ProcessEnv = process.env): Promise<Servers> {
  const docker = (!env.DATABASE_URL || !env.REDIS_URL) && (await dockerAnswers()) ? await composeUp() : undefined;
  const postgres = await pick(env.DATABASE_URL, 'DATABASE_URL', docker?.postgresUrl, startPostgres);
  const redis = await pick(env.REDIS_URL, 'REDIS_URL', docker?.redisUrl, startRedis).catch(async (error: unknown) => {
    await postgres.stop?.();
    throw error;
  });
  const stop = async () => {
    await Promise.all([postgres.stop?.(), redis.stop?.()]);
  };
  try {
    const description = await describe(postgres, redis);
    return { postgresUrl: postgres.url, redisUrl: redis.url, description, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function pick(
  given: string | undefined,
  variable: string,
  composeUrl: string | undefined,
  start: () => Promise<{ url: string; stop(): Promise<void> }>,
): Promise<Source> {
  if (given) return { url: given, from: variable };
  if (composeUrl) return { url: composeUrl, from: 'docker compose' };
  const server = await start();
  return { url: server.url, from: 'a private Debian 13 tree', stop: () => server.stop() };
}

async function describe(postgres: Source, redis: Source): Promise<string> {
  const database = `PostgreSQL ${await named(postgres, postgresVersion)}`;
  const store = `Redis ${await named(redis, redisVersion)}`;
  if (postgres.from === redis.from) return `servers: ${database}, ${store}, from ${postgres.from}`;
  return `servers: ${database} from ${postgres.from}, ${store} from ${redis.from}`;
}

/** Says whose fault it is when a server that was given does not answer. The URL may hold a password: not shown. */
async function named(source: Source, version: (url: string) => Promise<string>): Promise<string> {
  try {
    return await version(source.url);
  } catch (error) {
    const reason =
      error instanceof Error ? error.message || ('code' in error ? String(error.code) : error.name) : error;
    throw new Error(`The server from ${source.from} is of no use to the tests: ${reason}`, { cause: error });
  }
}

async function postgresVersion(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string; vector: string | null }>(
      `SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
              (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS vector`,
    );
    const [row] = rows;
    if (!row?.vector) throw new Error(`PostgreSQL ${row?.version} without pgvector`);
    return `${row.version} with pgvector ${row.vector}`;
  } finally {
    await client.end();
  }
}

async function redisVersion(url: string): Promise<string> {
  const client = new Redis(url, { lazyConnect: true, connectTimeout: 10_000, retryStrategy: () => null });
  let reason: unknown;
  client.on('error', (error) => {
    reason = error;
  });
  try {
    // connect() itself only says "Connection is closed"; why is told by the event.
    await client.connect().catch((error: unknown) => {
      throw reason ?? error;
    });
    return /^redis_version:(\S+)/m.exec(await client.info('server'))?.[1] ?? 'of unknown version';
  } finally {
    client.disconnect();
  }
}
