/**
 * The harness of the fault tests: a database of a test's own with one source `doc`, a Redis of its own, a provider that
 * counts what is paid, real worker processes, and an app that keeps writing and searching. The parts: `app.ts` (Q, X),
 * `oracle.ts` (C), `log.ts` (F), `provider.ts` and `faulty.ts` ($), `workers.ts`, `barrier.ts`, `cli.ts`.
 */
import { randomUUID } from 'node:crypto';
import { beforeAll } from 'vitest';
import type { Space } from '../../../src/catalog/space.js';
import type { Database } from '../../../src/db/database.js';
import { openDatabase } from '../../../src/db/open.js';
import { createClient, type StoreKind } from '../../../src/index.js';
import { vectorTable } from '../../../src/store/table.js';
import { asAdmin, createDatabase, databaseUrl, dropDatabase } from '../../support/admin.js';
import { freshDatabase, type TestDatabase } from '../../support/database.js';
import { eventually } from '../../support/eventually.js';
import { redisDatabase } from '../../support/redisDatabase.js';
import type { StandinOptions } from '../../support/standin/standin.js';
import { App, type AppOptions } from './app.js';
import { type Barrier, type BarrierOptions, installBarrier } from './barrier.js';
import { ensureBuilt } from './build.js';
import { type CliRun, type CliRunOptions, runCli } from './cli.js';
import { type FaultyProvider, startFaultyProvider } from './faulty.js';
import { assertOneWriter, installLog, writesOf } from './log.js';
import { assertFresh, backlog, countFresh } from './oracle.js';
import { type Provider, type StandIn, startStandIn } from './provider.js';
import { Fleet, type WorkerProcess } from './workers.js';

/** Before the first test, not in it: a build would take its time. */
beforeAll(ensureBuilt, 180_000);

/** Of a test: most take 20 s, on a machine that is busy with others thrice as long. */
export const TIMEOUT_MS = 180_000;

export interface SystemOptions {
  /** A server of the test's own, as its superuser; else the run's. */
  readonly postgresUrl?: string;
  /** A Redis of the test's own; else a database of the run's. `false`: BullMQ on Postgres. */
  readonly redisUrl?: string | false;
  readonly store?: StoreKind;
  /** `hnsw` unless told: the index must then be built by a maintainer. */
  readonly index?: 'hnsw' | 'none';
  /** Rows in `doc` before it becomes a source; 60 unless told. */
  readonly rows?: number;
  /** Over the workers' environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly app?: AppOptions;
}

export class System<P extends Provider = StandIn> {
  readonly app: App;
  readonly workers: Fleet;
  private readonly barriers: Barrier[] = [];

  constructor(
    readonly url: string,
    readonly env: Readonly<Record<string, string>>,
    readonly db: Database,
    readonly provider: P,
    readonly space: Space,
    appOptions: AppOptions = {},
  ) {
    this.app = new App(url, provider.dimensions, appOptions);
    this.workers = new Fleet(env);
  }

  async barrier(at: string, options?: BarrierOptions): Promise<Barrier> {
    const barrier = await installBarrier(this.url, at, options);
    this.barriers.push(barrier);
    return barrier;
  }

  /** Invariant C. Stop the app first. */
  assertFresh(timeoutMs?: number): Promise<void> {
    const vectorOf = (text: string) => this.provider.vectorOf(text);
    return assertFresh(this.db, { space: this.space, vectorOf, ...(timeoutMs !== undefined && { timeoutMs }) });
  }

  /** Invariant F. */
  assertOneWriter(): Promise<void> {
    return assertOneWriter(this.db, this.workers.all);
  }

  countFresh(): Promise<number> {
    return countFresh(this.db, this.space);
  }

  backlog() {
    return backlog(this.db);
  }

  writesOf(worker: WorkerProcess): Promise<number> {
    return writesOf(this.db, worker);
  }

  /** Keys that this worker holds; once it is dead, those of the batches that it had in flight. */
  async leasesOf(worker: WorkerProcess): Promise<number> {
    const [row] = await this.db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM freshvec.lease WHERE token IS NOT NULL AND worker LIKE '%:' || $1`,
      [String(worker.pid)],
    );
    return row?.n ?? 0;
  }

  /** A lease lasts 120 s by the database's clock; this is that clock going on, for the leases of one worker. */
  async expireLeases(worker: WorkerProcess): Promise<void> {
    await this.db.query(
      // Not those that a transaction of the worker holds locked: they would be waited for.
      `UPDATE freshvec.lease SET expires_at = clock_timestamp() - interval '1 second' WHERE (space_id, key) IN (
         SELECT space_id, key FROM freshvec.lease WHERE token IS NOT NULL AND worker LIKE '%:' || $1
         FOR UPDATE SKIP LOCKED)`,
      [String(worker.pid)],
    );
  }

  /** Waits until no transaction of a dead or stopped worker is open any more. */
  async transactionsEnded(worker: WorkerProcess): Promise<void> {
    const sql = `SELECT FROM pg_stat_activity
      WHERE application_name = $1 AND datname = current_database() AND xact_start IS NOT NULL`;
    const ended = async () => (await this.db.query(sql, [worker.name])).length === 0;
    await eventually(ended, { timeoutMs: 30_000, what: `the end of the transactions of ${worker.name}` });
  }

  /** Runs the CLI as a process of its own, in the workers' environment. */
  cli(argv: readonly string[], { env = {}, ...options }: CliRunOptions = {}): Promise<CliRun> {
    return runCli(argv, { ...options, env: { ...this.env, ...env } });
  }

  /** Writes one more row and waits until it has its vector: work goes on. */
  async probe(timeoutMs = 40_000): Promise<void> {
    const [row] = await this.db.query<{ id: number }>('INSERT INTO doc (body) VALUES ($1) RETURNING id', [
      `probe ${randomUUID()}`,
    ]);
    const sql = this.vectorOfRow();
    const fresh = async () => (await this.db.query(sql, [row?.id])).length > 0;
    await eventually(fresh, { timeoutMs, what: 'the vector of a row written just now' });
  }

  private vectorOfRow(): string {
    return this.space.store === 'column'
      ? 'SELECT FROM doc WHERE id = $1 AND embedding IS NOT NULL'
      : `SELECT FROM ${vectorTable(this.space)} WHERE id = $1`;
  }

  async close(): Promise<void> {
    this.provider.release?.();
    await this.app.stop();
    await Promise.all(this.barriers.map((barrier) => barrier.remove()));
    await this.workers.close();
    await this.provider.close();
    await this.db.close();
  }
}

/** Opens a system, runs `fn`, and takes everything away again. A failure carries what the workers wrote. */
export function withSystem(options: SystemOptions, fn: (system: System) => Promise<void>): Promise<void> {
  return runSystem(options, startStandIn, fn);
}

/** The same over a provider that goes wrong in every way; it may be changed while it runs. */
export function withFaultyProvider(
  { standin, ...options }: SystemOptions & { readonly standin?: StandinOptions },
  fn: (system: System<FaultyProvider>) => Promise<void>,
): Promise<void> {
  return runSystem(options, () => startFaultyProvider(standin), fn);
}

async function runSystem<P extends Provider>(
  options: SystemOptions,
  startProvider: () => Promise<P>,
  fn: (system: System<P>) => Promise<void>,
): Promise<void> {
  const undo: (() => Promise<unknown>)[] = [];
  try {
    const system = await openSystem(options, startProvider, undo);
    undo.push(() => system.close());
    try {
      await fn(system);
    } catch (error) {
      const left = await system.backlog().catch(() => undefined);
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${reason}\nleft: ${JSON.stringify(left)}\n${system.workers.logs()}`, { cause: error });
    }
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

async function openSystem<P extends Provider>(
  options: SystemOptions,
  startProvider: () => Promise<P>,
  undo: (() => Promise<unknown>)[],
): Promise<System<P>> {
  const { postgresUrl, redisUrl, store = 'column', index = 'none', rows = 60 } = options;
  const database = postgresUrl === undefined ? await freshDatabase() : await databaseOn(postgresUrl);
  undo.push(() => database.drop());
  const redis = redisUrl === undefined ? await redisDatabase() : undefined;
  if (redis) undo.push(() => redis.drop());
  const provider = await startProvider();
  const env = {
    DATABASE_URL: database.url,
    ...(redisUrl !== false && { REDIS_URL: redis?.url ?? (redisUrl as string) }),
    OPENAI_BASE_URL: provider.baseUrl,
    FRESHVEC_BATCH_KEYS: '20',
    ...options.env,
  };
  const db = await openDatabase({
    kind: 'postgres',
    url: database.url,
    poolSize: 2,
    applicationName: 'oracle',
    onError: () => {},
  });
  await db.exec(`
    CREATE TABLE doc (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text, note text,
      hidden boolean NOT NULL DEFAULT false);
    INSERT INTO doc (title, body) SELECT 'a title', 'text of the first load ' || i FROM generate_series(1, ${rows}) i`);
  const client = createClient({ env, configFile: false });
  const model = `openai/standin@${provider.dimensions}`;
  try {
    await client.schema.apply();
    const content = { columns: ['title', 'body'] };
    const plan = await client.sources.add({ table: 'doc', content, model, where: 'NOT hidden', store, index });
    const { space } = plan;
    if (store === 'column') await installLog(db, 'doc', 'UPDATE OF embedding');
    else await installLog(db, `freshvec.vector_${space.id}`, 'INSERT OR UPDATE OR DELETE');
    provider.forget?.();
    return new System(database.url, env, db, provider, space, options.app);
  } finally {
    await client.close();
  }
}

let serial = 0;

async function databaseOn(serverUrl: string): Promise<TestDatabase> {
  serial += 1;
  const name = `fault_${serial}`;
  await asAdmin(serverUrl, (admin) => createDatabase(admin, name, 'template0'));
  const url = databaseUrl(serverUrl, name);
  await asAdmin(url, (admin) => admin.query('CREATE EXTENSION IF NOT EXISTS vector'));
  return { url, name, drop: () => asAdmin(serverUrl, (admin) => dropDatabase(admin, name)) };
}
