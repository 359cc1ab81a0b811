import pg from 'pg';
import { dockerAnswers, dockerEngine } from './dockerEngine.js';
import type { Engine } from './engine.js';
import { beginAndWait, startOnFreePort } from './start.js';
import { ensureTree, type Tree } from './tree.js';
import { treeEngine } from './treeEngine.js';

export type PostgresSettings = Readonly<Record<string, string | number>>;

export interface PostgresOptions {
  /** postgresql.conf settings over the defaults, e.g. `{ max_connections: 100 }`. */
  readonly settings?: PostgresSettings;
  /** fsync on: for benches, and for tests about lost power. Off unless told. */
  readonly durable?: boolean;
}

/** `fast` disconnects and checkpoints, `immediate` leaves it to recovery, `kill` is SIGKILL to every process of it. */
export type StopMode = 'fast' | 'immediate' | 'kill';

export interface PostgresServer {
  /** Superuser, database `postgres`. Stays the same over restarts. */
  readonly url: string;
  readonly port: number;
  /** The postmaster's; undefined while it is down. */
  readonly pid: number | undefined;
  readonly settings: PostgresSettings;
  /** Ends the server for now; data and port stay for `up`. */
  down(mode?: StopMode): Promise<void>;
  up(): Promise<void>;
  restart(mode?: StopMode): Promise<void>;
  /** Ends the server for good and removes its data. */
  stop(mode?: StopMode): Promise<void>;
}

export const BIN = '/usr/lib/postgresql/17/bin';
export const IMAGE = 'pgvector/pgvector:pg17';
export const SIGNALS: Record<StopMode, NodeJS.Signals> = { fast: 'SIGINT', immediate: 'SIGQUIT', kill: 'SIGKILL' };

const DEFAULTS: PostgresSettings = {
  max_connections: 200,
  shared_buffers: '256MB',
  wal_level: 'replica',
  synchronous_commit: 'on',
  max_wal_size: '4GB',
};

/** A private PostgreSQL 17 with pgvector, on 127.0.0.1 and a free port. */
export async function startPostgres({ settings = {}, durable = false }: PostgresOptions = {}): Promise<PostgresServer> {
  const all = { ...DEFAULTS, ...(durable ? {} : { fsync: 'off', full_page_writes: 'off' }), ...settings };
  const make = (await dockerAnswers()) ? dockerPostgres : treePostgres(await ensureTree());
  const { engine, port } = await startOnFreePort((candidate) => make(candidate, all), answers);
  const down = (mode: StopMode = 'fast') => engine.end(SIGNALS[mode]);
  const up = () => beginAndWait(engine, () => answers(port));
  return {
    url: urlOn(port),
    port,
    get pid() {
      return engine.pid;
    },
    settings: all,
    down,
    up,
    async restart(mode) {
      await down(mode);
      await up();
    },
    async stop(mode = 'immediate') {
      await down(mode);
      await engine.remove();
    },
  };
}

type MakePostgres = (port: number, settings: PostgresSettings) => Promise<Engine>;

function treePostgres(tree: Tree): MakePostgres {
  return (port, settings) =>
    treeEngine({
      tree,
      user: 'postgres',
      deathSignal: 'QUIT',
      prepare: (home) => [
        `${BIN}/initdb`,
        `--pgdata=${home}/data`,
        '--username=postgres',
        '--auth=trust',
        '--encoding=UTF8',
        '--locale=C.UTF-8',
        '--no-sync',
      ],
      command: (home) => treeCommand(home, port, settings),
    });
}

/** The server of the tree, on `home`/data. */
export function treeCommand(home: string, port: number, settings: PostgresSettings): string[] {
  const place = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    // The tree's /dev/shm is a plain directory; files in the data directory at least vanish with it.
    dynamic_shared_memory_type: 'mmap',
  };
  return [`${BIN}/postgres`, '-D', `${home}/data`, ...asArguments({ ...place, ...settings })];
}

const dockerPostgres: MakePostgres = (port, settings) =>
  dockerEngine({
    image: IMAGE,
    port,
    containerPort: 5432,
    env: { POSTGRES_HOST_AUTH_METHOD: 'trust' },
    command: ['postgres', ...asArguments(settings)],
  });

export function asArguments(settings: PostgresSettings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

export function urlOn(port: number): string {
  return `postgres://postgres@127.0.0.1:${port}/postgres`;
}

export async function answers(port: number): Promise<void> {
  const client = new pg.Client({ connectionString: urlOn(port), connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
  } finally {
    await client.end().catch(() => undefined);
  }
}
