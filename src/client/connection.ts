import { type BudgetSettings, createGates, type Gates } from '../budget/gates.js';
import { assertSchema } from '../catalog/schema.js';
import { getSetting } from '../catalog/settings.js';
import type { Config } from '../config/config.js';
import { requireDatabase } from '../config/load.js';
import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { openDatabase } from '../db/open.js';
import type { PgliteDatabase } from '../db/pglite.js';
import type { EmbeddingModel } from '../embed/port.js';
import { openQueue } from '../queue/open.js';
import type { Queue } from '../queue/port.js';
import { createModels, type Models } from '../worker/models.js';

/** What the configuration says of limits and money. */
export function budgetSettings({ budget, spend, prices, models }: Config): BudgetSettings {
  return { ...budget, capPerDay: spend.perDay, prices, baseUrl: models.openai.baseUrl };
}

/** What one process holds open: the database when it is first asked for, models as they are used, queues. */
export class Connection {
  readonly models: Models;
  #database: Promise<Database> | undefined;
  #checked: Promise<void> | undefined;
  #gates: Gates | undefined;
  #closed = false;

  /**
   * @param onError told of errors that belong to no call: a dropped idle connection, a queue that is out of reach
   * @param given models beside those that a spec opens
   * @param reachMs how long a database that does not answer is tried again; 30 s unless told
   */
  constructor(
    readonly config: Config,
    readonly onError: (error: unknown) => void,
    readonly reachMs?: number,
    given: readonly EmbeddingModel[] = [],
  ) {
    this.models = createModels(config.models, given);
  }

  /** The database, whether freshvec is set up in it or not. Throws ConfigError `database_missing`. */
  database(): Promise<Database> {
    if (this.#closed) throw new FreshvecError('client_closed', 'This freshvec client is closed.');
    if (this.#database) return this.#database;
    const opening = this.#open();
    this.#database = opening;
    // Another process may have had it open: the next call tries again.
    opening.catch(() => {
      if (this.#database === opening) this.#database = undefined;
    });
    return opening;
  }

  /** The database, after a look that this code may work on it. */
  async ready(): Promise<Database> {
    const db = await this.database();
    this.#checked ??= assertSchema(db);
    this.#checked.catch(() => {
      this.#checked = undefined;
    });
    await this.#checked;
    return db;
  }

  /** What may be asked of providers; shared by all that runs over this connection. */
  async gates(): Promise<Gates> {
    const db = await this.ready();
    this.#gates ??= createGates(db, budgetSettings(this.config), this.onError);
    return this.#gates;
  }

  /** Writes down what was charged so far. */
  async flush(): Promise<void> {
    await this.#gates?.flush();
  }

  /** A queue of its own for each consumer. Refuses a backend that is not the one on record. */
  async queue(): Promise<Queue> {
    const { queue, database } = this.config;
    const db = await this.ready();
    await assertSchema(db, { queueBackend: queue.backend });
    const settings = { onError: this.onError };
    if (queue.backend === 'redis') {
      // Databases that share a Redis must not take one another's jobs.
      const installation = await getSetting(db, 'installation');
      return openQueue({ ...queue, prefix: `freshvec:${installation}` }, settings);
    }
    if (queue.backend === 'pglite') return openQueue({ backend: 'pglite', db: db as PgliteDatabase }, settings);
    if (database?.kind !== 'postgres') throw new FreshvecError('queue_backend_mismatch', 'No server for the queue.');
    return openQueue({ backend: 'postgres', url: database.directUrl ?? database.url }, settings);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.models.close();
    await this.#gates?.close();
    const db = await this.#database?.catch(() => undefined);
    await db?.close();
  }

  #open(): Promise<Database> {
    const target = requireDatabase(this.config);
    if (target.kind === 'pglite') return openDatabase(target);
    return openDatabase({ ...target, applicationName: 'freshvec', onError: this.onError, reachMs: this.reachMs });
  }
}
