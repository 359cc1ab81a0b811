import pg from 'pg';
import { dockerAnswers, dockerEngine } from './dockerEngine.js';
import type { Engine } from './engine.js';
import { startOnFreePort } from './start.js';
import { ensureTree, type Tree } from './tree.js';
import { treeEngine } from './treeEngine.js';

export interface PgBouncer {
  /** The same database as `serverUrl` names, through the pooler. */
  url(databaseUrl: string): string;
  stop(): Promise<void>;
}

/** PgBouncer in transaction mode before a server, with few connections, so that clients do share them. */
export async function startPgBouncer(serverUrl: string): Promise<PgBouncer> {
  const make = (await dockerAnswers()) ? dockerPgBouncer : treePgBouncer(await ensureTree());
  const { engine, port } = await startOnFreePort(
    (candidate) => make(settings(serverUrl, candidate)),
    (candidate) => answers(through(serverUrl, candidate)),
  );
  return {
    url: (databaseUrl) => through(databaseUrl, port),
    async stop() {
      await engine.end('SIGINT');
      await engine.remove();
    },
  };
}

interface Settings {
  readonly port: number;
  readonly ini: string;
}

function settings(serverUrl: string, port: number): Settings {
  const { hostname, port: serverPort, username, password } = new URL(serverUrl);
  const server = [`host=${hostname}`, `port=${serverPort || 5432}`, `user=${decodeURIComponent(username)}`];
  if (password) server.push(`password='${decodeURIComponent(password).replaceAll("'", "''")}'`);
  const lines = [
    '[databases]',
    `* = ${server.join(' ')}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = transaction',
    'default_pool_size = 4',
    'max_client_conn = 200',
  ];
  return { port, ini: `${lines.join('\n')}\n` };
}

function treePgBouncer(tree: Tree): (settings: Settings) => Promise<Engine> {
  return ({ ini }) =>
    treeEngine({
      tree,
      user: 'postgres',
      deathSignal: 'TERM',
      prepare: (home) => ['/bin/sh', '-c', 'printf %s "$1" > "$2"', 'sh', ini, `${home}/pgbouncer.ini`],
      command: (home) => ['/usr/sbin/pgbouncer', `${home}/pgbouncer.ini`],
    });
}

/** The image of the tests' PostgreSQL is Debian, and has the package a moment later. */
const INSTALL_AND_RUN = `set -e
apt-get -qq update && apt-get -qq install -y --no-install-recommends pgbouncer
printf %s "$INI" > /tmp/pgbouncer.ini
exec setpriv --reuid=postgres --regid=postgres --clear-groups pgbouncer /tmp/pgbouncer.ini`;

function dockerPgBouncer({ port, ini }: Settings): Promise<Engine> {
  const command = ['bash', '-c', INSTALL_AND_RUN];
  return dockerEngine({ image: 'pgvector/pgvector:pg17', port, containerPort: 'host', env: { INI: ini }, command });
}

function through(databaseUrl: string, port: number): string {
  const url = new URL(databaseUrl);
  url.host = `127.0.0.1:${port}`;
  return url.href;
}

async function answers(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
  } finally {
    await client.end().catch(() => undefined);
  }
}
