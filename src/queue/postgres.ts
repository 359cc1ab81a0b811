import { type PgPool, type PgPoolClient, type PgQueryResult, quoteSchemaName, runMigrations } from 'bullmq';
import pg from 'pg';
import { describeTarget, REACH_MS, reach } from '../db/reach.js';
import type { QueueBackend } from './backend.js';
import { asOutage, DEFAULT_QUEUE_SCHEMA, needsMigration, poolFactory } from './pool-connection.js';

export interface PostgresQueueOptions {
  readonly backend: 'postgres';
  /** The server itself, not a pooler: workers LISTEN on it. */
  readonly url: string;
  readonly schema?: string | undefined;
}

/** Two workers hold one LISTEN connection each; the rest is for statements of a few milliseconds. */
const POOL_SIZE = 5;
const CONNECT_MS = 5_000;

/** BullMQ on PostgreSQL, on one pool of its own. */
export async function postgresBackend(
  options: PostgresQueueOptions,
  onError: (error: unknown) => void,
): Promise<QueueBackend> {
  const schema = options.schema ?? DEFAULT_QUEUE_SCHEMA;
  const pool = new pg.Pool({
    ...withOptions(
      options.url,
      // BullMQ's functions count on READ COMMITTED; the database may have another default.
      `-c search_path=${quoteSchemaName(schema)} -c default_transaction_isolation=read\\ committed`,
    ),
    max: POOL_SIZE,
    application_name: 'freshvec-queue',
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  pool.on('error', onError);
  try {
    await migrate(pool, schema, describeTarget(options.url));
  } catch (error) {
    await pool.end();
    throw error;
  }
  const queuePool = new QueuePool(pool, onError);
  const factory = poolFactory(queuePool, schema);
  let closed: Promise<void> | undefined;
  return {
    kind: 'postgres',
    producer: factory,
    consumer: factory,
    async beforeClose() {},
    close() {
      closed ??= queuePool.settled().then(() => pool.end());
      return closed;
    },
  };
}

/** Options that a URL has take the place of those beside it: ours go behind them, where they hold. */
function withOptions(url: string, ours: string): pg.PoolConfig {
  const parsed = URL.parse(url);
  const given = parsed?.searchParams.get('options');
  if (!parsed || !given) return { connectionString: url, options: ours };
  parsed.searchParams.set('options', `${given} ${ours}`);
  return { connectionString: parsed.href };
}

async function migrate(pool: pg.Pool, schema: string, target: string): Promise<void> {
  const client = await reach(() => pool.connect(), { target, budgetMs: REACH_MS });
  const ignore = () => undefined; // the statement that it fails rejects
  client.on('error', ignore);
  let done = false;
  try {
    if (await needsMigration(client, schema)) await runMigrations(client, schema);
    done = true;
  } finally {
    client.removeListener('error', ignore);
    client.release(!done);
  }
}

/** The pool as BullMQ sees it. */
class QueuePool implements PgPool {
  readonly options = { keepAlive: true };
  readonly #pool: pg.Pool;
  readonly #onError: (error: unknown) => void;
  readonly #running = new Set<Promise<unknown>>();

  constructor(pool: pg.Pool, onError: (error: unknown) => void) {
    this.#pool = pool;
    this.#onError = onError;
  }

  async query<R>(text: string, params?: readonly unknown[]): Promise<PgQueryResult<R>> {
    const running = this.#pool.query(text, params && [...params]);
    this.#running.add(running);
    try {
      const { rows, rowCount } = await running;
      return { rows: rows as R[], rowCount };
    } catch (error) {
      throw asOutage(error, this.#onError);
    } finally {
      this.#running.delete(running);
    }
  }

  /** What waits for a connection when the pool ends would time out. BullMQ writes settings that nobody waits for. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  async connect(): Promise<PgPoolClient> {
    try {
      return (await this.#pool.connect()) as unknown as PgPoolClient; // only the overloads of `on` are told otherwise
    } catch (error) {
      throw asOutage(error, this.#onError);
    }
  }

  async end(): Promise<void> {}

  /** Errors of idle clients go to `onError` already; BullMQ would repeat them once per connection object. */
  on(): this {
    return this;
  }

  removeAllListeners(): this {
    return this;
  }
}
