import os from 'node:os';
import pg from 'pg';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import { type PostgresSettings, startPostgres, startRedis } from '../../test/support/servers.js';
import type { Figure } from './figures.js';

/** A bench measures with what the lab lends, and returns its figures; the lab takes everything down at the end. */
export type Bench = (lab: Lab) => Promise<Figure[]>;

const SETTINGS: PostgresSettings = {
  shared_buffers: '1GB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
  maintenance_work_mem: '512MB',
  jit: 'off',
};

export class Lab {
  /** What a reader must know to judge the figures. */
  readonly setup: string[];
  private readonly undo: (() => Promise<unknown>)[] = [];

  constructor() {
    const [cpu] = os.cpus();
    this.setup = [`${os.cpus().length} cores (${cpu?.model.trim()}), Node ${process.version}`];
  }

  /** A PostgreSQL of the bench's own, with fsync on. */
  async postgres(settings: PostgresSettings = {}): Promise<string> {
    const all = { ...SETTINGS, ...settings };
    const server = await startPostgres({ durable: true, settings: all });
    this.later(() => server.stop('immediate'));
    const client = await this.client(server.url);
    const { rows } = await client.query<{ pg: string; vector: string }>(
      `SELECT current_setting('server_version') AS pg, default_version AS vector FROM pg_available_extensions WHERE name = 'vector'`,
    );
    const said = Object.entries({ fsync: 'on', ...all }).map(([name, value]) => `${name}=${value}`);
    this.setup.push(`PostgreSQL ${rows[0]?.pg}, pgvector ${rows[0]?.vector}: ${said.join(' ')}`);
    return server.url;
  }

  async redis(): Promise<string> {
    const server = await startRedis();
    this.later(() => server.stop());
    this.setup.push('Redis beside it, without persistence');
    return server.url;
  }

  /** A plain connection, as an app has it. */
  async client(url: string, applicationName?: string): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: url, application_name: applicationName });
    client.on('error', () => undefined);
    await client.connect();
    this.later(() => client.end());
    return client;
  }

  database(url: string, poolSize = 4, applicationName = 'freshvec-bench'): Database {
    const onError = (error: unknown) => this.say(`database: ${error}`);
    const db = openPostgres({ url, poolSize, applicationName, onError });
    this.later(() => db.close());
    return db;
  }

  /** Has `undo` called when the bench is over; the last one first. */
  later(undo: () => Promise<unknown>): void {
    this.undo.push(undo);
  }

  /** Progress, for the person who waits. */
  say(line: string): void {
    process.stderr.write(`  ${line}\n`);
  }

  async close(): Promise<void> {
    for (const undo of this.undo.splice(0).reverse()) await undo().catch((error) => this.say(`clean-up: ${error}`));
  }
}
