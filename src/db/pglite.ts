import { mkdirSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { PGlite, type QueryOptions, type Transaction } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import type { Database, Executor, Row, VectorExtension } from './database.js';
import { executor, PINNED_SETTINGS, readVectorExtension } from './executor.js';
import { ident } from './identifiers.js';
import { type LockFile, lockDirectory } from './lock-file.js';
import { encodeParameter, PARSERS } from './types.js';

export interface PgliteOptions {
  /** Directory of the database; in memory without. */
  readonly dataDir?: string | undefined;
}

type Serializers = NonNullable<QueryOptions['serializers']>;

/**
 * PGlite sends text for strings and binary for bytes, whatever the type, once its own serializers are out of the way:
 * an identity for every oid (its bind looks at the value, pg-protocol's serializer.ts).
 */
const identity: Serializers = new Proxy<Serializers>({}, { get: () => (value: string) => value });
const OPTIONS: QueryOptions = { parsers: { ...PARSERS }, serializers: identity };

/** PostgreSQL in this process, with pgvector. Refuses a directory that another process has open. */
export async function openPglite(options: PgliteOptions): Promise<PgliteDatabase> {
  const lock = options.dataDir === undefined ? undefined : lockDataDir(options.dataDir);
  try {
    const pglite = await PGlite.create({
      ...(options.dataDir === undefined ? {} : { dataDir: resolve(options.dataDir) }),
      extensions: { vector },
    });
    await pglite.exec('CREATE EXTENSION IF NOT EXISTS vector');
    return new PgliteDatabase(pglite, lock);
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/** Locks the real path, so that a symbolic link is no second way in. */
function lockDataDir(dataDir: string): LockFile {
  mkdirSync(resolve(dataDir), { recursive: true });
  return lockDirectory(realpathSync(resolve(dataDir)));
}

/** One connection: whatever is asked for at once runs one after the other. */
export class PgliteDatabase implements Database {
  readonly kind = 'pglite';
  readonly #pglite: PGlite;
  readonly #lock: LockFile | undefined;
  #vector: VectorExtension | undefined;
  #closed: Promise<void> | undefined;

  constructor(pglite: PGlite, lock: LockFile | undefined) {
    this.#pglite = pglite;
    this.#lock = lock;
  }

  query<R extends Row = Row>(text: string, params?: readonly unknown[]): Promise<R[]> {
    return run<R>(this.#pglite, text, params);
  }

  async exec(sql: string): Promise<void> {
    try {
      await this.#pglite.exec(sql);
    } catch (error) {
      await this.#pglite.exec('ROLLBACK'); // the script may have opened a transaction
      throw error;
    }
  }

  tx<T>(fn: (tx: Executor) => Promise<T>): Promise<T> {
    return this.transaction(PINNED_SETTINGS, fn);
  }

  /** A transaction that begins with `settings`, one or more SET LOCAL. */
  transaction<T>(settings: string, fn: (tx: Executor) => Promise<T>): Promise<T> {
    return this.#pglite.transaction(async (tx) => {
      await tx.exec(settings);
      let failed = false;
      const result = await fn(
        executor(async (text, params) => {
          try {
            return await run(tx, text, params);
          } catch (error) {
            failed = true;
            throw error;
          }
        }),
      );
      // COMMIT of an aborted transaction rolls back without an error; any other statement in it has one.
      if (failed) await tx.query('SELECT 1');
      return result;
    });
  }

  /** A transaction whose statements without parameters may be scripts of several. For BullMQ's migrations. */
  scriptTransaction<T>(
    fn: (run: (text: string, params?: readonly unknown[]) => Promise<Row[]>) => Promise<T>,
  ): Promise<T> {
    return this.#pglite.transaction((tx) =>
      fn(async (text, params) => {
        if (params !== undefined) return run(tx, text, params);
        const results = await tx.exec(text, OPTIONS);
        return results.at(-1)?.rows ?? [];
      }),
    );
  }

  session<T>(fn: (session: Executor) => Promise<T>): Promise<T> {
    return fn(this);
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<() => Promise<void>> {
    const pglite = this.#pglite;
    // A listener of its own each time: PGlite keeps them in a set.
    const stop = await pglite.listen(ident(channel), (payload) => onNotify(payload));
    return async () => {
      if (this.#closed === undefined) await stop();
    };
  }

  async vectorExtension(): Promise<VectorExtension | undefined> {
    this.#vector ??= await readVectorExtension(this);
    return this.#vector;
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      try {
        await this.#pglite.close();
      } finally {
        this.#lock?.release();
      }
    })();
    return this.#closed;
  }
}

async function run<R extends Row>(
  session: Pick<Transaction, 'query'>,
  text: string,
  params: readonly unknown[] = [],
): Promise<R[]> {
  const { rows } = await session.query<R>(text, params.map(encodeParameter), OPTIONS);
  return rows;
}
