import pg from 'pg';
import { eventually } from './eventually.js';

/** One connection to the server itself, for as long as `fn` takes. */
export async function asAdmin<T>(serverUrl: string, fn: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client({ connectionString: serverUrl, application_name: 'freshvec-test-admin' });
  await admin.connect();
  try {
    return await fn(admin);
  } finally {
    await admin.end();
  }
}

export function databaseUrl(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${encodeURIComponent(database)}`;
  return url.href;
}

/** The template must be at rest: a connection to it, autovacuum's too, makes CREATE DATABASE fail after 5 s. */
export async function createDatabase(admin: pg.Client, name: string, template: string): Promise<void> {
  const sql = `CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${pg.escapeIdentifier(template)} STRATEGY WAL_LOG`;
  const create = () => admin.query(sql).then(() => true);
  await eventually(create, { timeoutMs: 30_000, intervalMs: 100, what: `the creation of ${name}` });
}

export async function dropDatabase(admin: pg.Client, name: string): Promise<void> {
  await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
}

export interface OpenConnection {
  readonly pid: number;
  readonly application: string;
  readonly state: string | null;
  readonly query: string;
}

/** Who is connected to a database, the connection that looks not counted. */
export async function openConnections(admin: pg.Client, database: string): Promise<OpenConnection[]> {
  const { rows } = await admin.query<OpenConnection>(
    `SELECT pid, application_name AS application, state, left(query, 200) AS query
       FROM pg_stat_activity
      WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')`,
    [database],
  );
  return rows;
}

/** Fails unless everybody has left the database; a backend needs a moment to end after its client did. */
export async function assertNobodyConnected(admin: pg.Client, database: string, settleMs = 2_000): Promise<void> {
  let left: OpenConnection[] = [];
  const nobody = async () => {
    left = await openConnections(admin, database);
    return left.length === 0;
  };
  await eventually(nobody, { timeoutMs: settleMs, intervalMs: 20 }).catch(() => {
    const who = left.map(({ pid, application, state, query }) => `  ${pid} ${application} ${state}: ${query}`);
    throw new Error(`Leaked: ${left.length} connections to ${database} are still open\n${who.join('\n')}`);
  });
}

/** Runs `fn` with a connection of its own. */
export async function withClient<T>(url: string, fn: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await fn(client);
  } finally {
    await client.end();
  }
}
