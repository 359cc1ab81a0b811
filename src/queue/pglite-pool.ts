import { EventEmitter } from 'node:events';
import { type PgPool, type PgPoolClient, type PgQueryResult, quoteSchemaName, runMigrations } from 'bullmq';
import type { PgliteDatabase } from '../db/pglite.js';
import type { QueueBackend } from './backend.js';
import { asOutage, DEFAULT_QUEUE_SCHEMA, needsMigration, poolFactory } from './pool-connection.js';

export interface PgliteQueueOptions {
  readonly backend: 'pglite';
  readonly db: PgliteDatabase;
}

/** BullMQ on the embedded database, on its one connection. Closing the queue leaves the database open. */
export async function pgliteBackend(
  { db }: PgliteQueueOptions,
  onError: (error: unknown) => void,
): Promise<QueueBackend> {
  const schema = DEFAULT_QUEUE_SCHEMA;
  const pool = new PglitePool(db, schema, onError);
  await pool.migrate();
  const factory = poolFactory(pool, schema);
  const nothing = async () => undefined;
  return { kind: 'pglite', producer: factory, consumer: factory, beforeClose: nothing, close: nothing };
}

/**
 * The embedded database in the shape of a pool. Each statement is a transaction of its own that puts BullMQ's schema
 * first for itself only: its statements name `job` and `event` without a schema, which an app may have too, and the
 * app's statements run on this same connection.
 */
class PglitePool implements PgPool {
  /** There is no socket that could be lost. */
  readonly options = { keepAlive: true };
  readonly #db: PgliteDatabase;
  readonly #schema: string;
  readonly #settings: string;
  readonly #onError: (error: unknown) => void;

  constructor(db: PgliteDatabase, schema: string, onError: (error: unknown) => void) {
    this.#db = db;
    this.#onError = onError;
    this.#schema = schema;
    this.#settings = `SET LOCAL search_path = ${quoteSchemaName(schema)}`;
  }

  async query<R>(text: string, params?: readonly unknown[]): Promise<PgQueryResult<R>> {
    try {
      const rows = await this.#db.transaction(this.#settings, (tx) => tx.query(text, params));
      return { rows: rows as R[] };
    } catch (error) {
      throw asOutage(error, this.#onError);
    }
  }

  async connect(): Promise<PgPoolClient> {
    return new PgliteClient(this, this.#db);
  }

  /** BullMQ's migrations in one transaction, which is PGlite's: its own BEGIN, COMMIT and ROLLBACK are left out. */
  async migrate(): Promise<void> {
    const plain = async <R>(text: string, params?: readonly unknown[]) => ({
      rows: (await this.#db.query(text, params)) as R[],
    });
    if (!(await needsMigration({ query: plain }, this.#schema))) return;
    await this.#db.scriptTransaction((run) => {
      const query = async <R>(text: string, params?: readonly unknown[]): Promise<PgQueryResult<R>> => {
        if (/^(BEGIN|COMMIT|ROLLBACK)$/.test(text)) return { rows: [] };
        return { rows: (await run(text, params)) as R[] };
      };
      return runMigrations({ query }, this.#schema);
    });
  }

  async end(): Promise<void> {}

  on(): this {
    return this;
  }

  removeAllListeners(): this {
    return this;
  }
}

/** What `connect` gives: BullMQ takes one for each worker's LISTEN. Other statements run as those of the pool. */
class PgliteClient extends EventEmitter implements PgPoolClient {
  readonly #pool: PglitePool;
  readonly #db: PgliteDatabase;
  readonly #stops: (() => Promise<void>)[] = [];

  constructor(pool: PglitePool, db: PgliteDatabase) {
    super();
    this.#pool = pool;
    this.#db = db;
  }

  async query<R>(text: string, params?: readonly unknown[]): Promise<PgQueryResult<R>> {
    const channel = /^\s*LISTEN\s+(\w+)\s*;?\s*$/m.exec(text)?.[1];
    if (channel === undefined) return this.#pool.query(text, params);
    this.#stops.push(await this.#db.listen(channel, (payload) => this.emit('notification', { channel, payload })));
    return { rows: [] };
  }

  release(): void {
    for (const stop of this.#stops.splice(0)) void stop().catch(() => undefined);
  }
}
