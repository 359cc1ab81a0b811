import pg from 'pg';
import type { Database, Executor, Row, StatementOptions, TxOptions, VectorExtension } from './database.js';
import { FreshvecError, sqlState } from './errors.js';
import { executor, PINNED_SETTINGS, readVectorExtension } from './executor.js';
import { startListening } from './listen.js';
import { refusePooler } from './pooler.js';
import { describeTarget, REACH_MS, reach } from './reach.js';
import { encodeParameter, PARSERS, type TextParser } from './types.js';

export interface PostgresOptions {
  readonly url: string;
  /** Where `url` is a pooler: the server itself, for LISTEN and for sessions. */
  readonly directUrl?: string | undefined;
  readonly poolSize: number;
  readonly applicationName: string;
  /** Errors that belong to no call: idle clients that dropped, a listener that is reconnecting. */
  readonly onError: (error: unknown) => void;
  /** How long taking a connection may go on failing before it is an error; 30 s by default. */
  readonly reachMs?: number | undefined;
}

const CONNECT_MS = 5_000;
const KEEP_ALIVE_MS = 10_000;
/** A process that is stopped, or cut off, in mid-transaction must not keep the app's rows locked until TCP gives up. */
const IDLE_IN_TX_MS = 5_000;
const BEGIN = `BEGIN ISOLATION LEVEL READ COMMITTED; ${PINNED_SETTINGS}; SET LOCAL idle_in_transaction_session_timeout = ${IDLE_IN_TX_MS}`;
const BEGIN_UNFLUSHED = `${BEGIN}; SET LOCAL synchronous_commit = off`;
const SERIALIZATION_FAILURE = '40001';
const asText: TextParser = (text) => text;

/** One PostgreSQL behind node-postgres. Connects when first used. */
export function openPostgres(options: PostgresOptions): Database {
  return new PostgresDatabase(options);
}

class PostgresDatabase implements Database {
  readonly kind = 'postgres';
  readonly #options: PostgresOptions;
  readonly #pool: pg.Pool;
  readonly #committed = new WeakMap<pg.PoolClient, boolean>();
  readonly #listeners = new Set<() => Promise<void>>();
  #vector: VectorExtension | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: PostgresOptions) {
    this.#options = options;
    this.#pool = new pg.Pool({ ...clientConfig(options, options.url), max: options.poolSize, pipeline: true });
    this.#pool.on('error', options.onError);
  }

  query<R extends Row = Row>(text: string, params?: readonly unknown[]): Promise<R[]> {
    return this.#withClient(async (client, discard) => {
      if (await this.#readsCommitted(client)) {
        try {
          return await run<R>(client, text, params);
        } catch (error) {
          // Cannot be under READ COMMITTED: a pooler lent a session with another default.
          if (sqlState(error) !== SERIALIZATION_FAILURE) throw error;
        }
      }
      return runCommitted<R>(client, text, params, discard);
    });
  }

  exec(sql: string): Promise<void> {
    return this.#withClient(async (client, discard) => {
      try {
        await client.query(sql);
      } catch (error) {
        discard(); // the script may have opened a transaction, or changed settings
        throw error;
      }
    });
  }

  tx<T>(fn: (tx: Executor) => Promise<T>, { flushed = true, eager = false }: TxOptions = {}): Promise<T> {
    return this.#withClient(async (client, discard) => {
      const begun = client.query(flushed ? BEGIN : BEGIN_UNFLUSHED);
      begun.catch(discard);
      if (!eager) await begun;
      let ended: Promise<pg.QueryResult> | undefined;
      const end = () => {
        ended = client.query('COMMIT');
        ended.catch(ignore); // Seen where it is awaited.
      };
      try {
        const tx = executor(
          async <R extends Row>(text: string, params?: readonly unknown[], options?: StatementOptions) => {
            const rows = run<R>(client, text, params);
            if (options?.last) end();
            const [found] = await Promise.all([rows, begun]);
            return found;
          },
        );
        const result = await fn(tx);
        await begun;
        if (!ended) end();
        const done = await ended;
        if (done?.command !== 'COMMIT') {
          throw new FreshvecError('transaction_aborted', 'A statement failed in this transaction: it was rolled back.');
        }
        return result;
      } catch (error) {
        await client.query('ROLLBACK').catch(discard);
        throw error;
      }
    });
  }

  async session<T>(fn: (session: Executor) => Promise<T>): Promise<T> {
    const client = await this.#connectDirect();
    try {
      await client.query(`SET default_transaction_isolation = 'read committed'`);
      return await fn(executor((text, params) => run(client, text, params)));
    } finally {
      await client.end().catch(ignore);
    }
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<() => Promise<void>> {
    const connect = () => this.#connectDirect();
    const stop = await startListening({ connect, channel, onNotify, onError: this.#options.onError });
    this.#listeners.add(stop);
    return async () => {
      this.#listeners.delete(stop);
      await stop();
    };
  }

  async vectorExtension(): Promise<VectorExtension | undefined> {
    this.#vector ??= await readVectorExtension(this);
    return this.#vector;
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      await Promise.all([...this.#listeners].map((stop) => stop()));
      await this.#pool.end();
    })();
    return this.#closed;
  }

  /** Whether a statement by itself runs under READ COMMITTED: asked once for each connection. */
  async #readsCommitted(client: pg.PoolClient): Promise<boolean> {
    const known = this.#committed.get(client);
    if (known !== undefined) return known;
    const [row] = await run<{ default_transaction_isolation: string }>(client, 'SHOW default_transaction_isolation');
    const committed = row?.default_transaction_isolation === 'read committed';
    this.#committed.set(client, committed);
    return committed;
  }

  /** Lends a pooled client. One that lost its connection, or that `fn` discards, does not go back into the pool. */
  async #withClient<T>(fn: (client: pg.PoolClient, discard: () => void) => Promise<T>): Promise<T> {
    const pool = this.#pool;
    const client = await reach(() => pool.connect(), {
      target: describeTarget(this.#options.url),
      budgetMs: this.#options.reachMs ?? REACH_MS,
      busy: () => pool.totalCount - pool.idleCount >= this.#options.poolSize,
    });
    let discarded = false;
    const discard = () => {
      discarded = true;
    };
    // A client out of the pool has no other listener, and an 'error' that nobody hears ends the process.
    client.on('error', discard);
    try {
      return await fn(client, discard);
    } finally {
      client.removeListener('error', discard);
      client.release(discarded);
    }
  }

  async #connectDirect(): Promise<pg.Client> {
    const url = this.#options.directUrl ?? this.#options.url;
    const target = describeTarget(url);
    const connect = async () => {
      const client = new pg.Client(clientConfig(this.#options, url));
      try {
        await client.connect();
        return client;
      } catch (error) {
        await client.end().catch(ignore);
        throw error;
      }
    };
    const reachable = () => reach(connect, { target, budgetMs: this.#options.reachMs ?? REACH_MS });
    const client = await reachable();
    client.on('error', ignore); // The statement that it fails rejects.
    try {
      await refusePooler(client, target, reachable);
      return client;
    } catch (error) {
      await client.end().catch(ignore);
      throw error;
    }
  }
}

async function run<R extends Row>(client: pg.ClientBase, text: string, params: readonly unknown[] = []): Promise<R[]> {
  const result = await client.query<R>(text, params.map(encodeParameter));
  return result.rows;
}

/**
 * One statement where the database, the role or the server has another default than READ COMMITTED. Setting it for the
 * session would set it for strangers behind a pooler.
 */
async function runCommitted<R extends Row>(
  client: pg.PoolClient,
  text: string,
  params: readonly unknown[] | undefined,
  discard: () => void,
): Promise<R[]> {
  await client.query('BEGIN ISOLATION LEVEL READ COMMITTED').catch((error: unknown) => {
    discard();
    throw error;
  });
  try {
    const rows = await run<R>(client, text, params);
    await client.query('COMMIT');
    return rows;
  } catch (error) {
    await client.query('ROLLBACK').catch(discard);
    throw error;
  }
}

function clientConfig(options: PostgresOptions, url: string): pg.PoolConfig {
  return {
    connectionString: url,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    types: { getTypeParser: (oid: number) => PARSERS[oid] ?? asText },
  };
}

function ignore(): void {}
