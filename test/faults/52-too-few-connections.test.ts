import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type PostgresServer, startPostgres } from '../support/servers.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';

/** Scaled from 100. Three of them are kept for superusers: here the oracle is one, and the app. */
const MAX_CONNECTIONS = 20;
/** Each may open 2 × 6 + 4 connections, and one to listen: 51, three times what there is. */
const WORKERS = 3;
const ENV = { FRESHVEC_SLOTS: '6', FRESHVEC_BATCH_KEYS: '10' };
/** How long a worker waits for a connection before it gives up: `REACH_MS` in src/db/reach.ts. */
const REACH_MS = 30_000;

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres({ settings: { max_connections: MAX_CONNECTIONS, superuser_reserved_connections: 3 } });
});
afterAll(() => server.stop());

test('fault 52: 200 connections of workers on a server with 100 (here 51 and 20) [C]', {
  timeout: TIMEOUT_MS,
}, async ({ task }) => {
  task.meta.tries = WORKERS + 1;
  await withSystem({ postgresUrl: server.url, rows: 3000, env: ENV }, async (system) => {
    const { app, workers } = system;
    const env = { DATABASE_URL: await asFleet(system) };
    app.start();

    // No connection at all. One waits in vain and says why; others come while it waits, and live to see one free.
    const free = takeAll(env.DATABASE_URL);
    const early = await workers.start({ env, wait: false });
    await sleep(REACH_MS / 2);
    const late = await Promise.all(Array.from({ length: WORKERS }, () => workers.start({ env, wait: false })));
    const says = () => /database_unreachable.*It has no connection left: raise max_connections/.test(early.log());
    await eventually(says, { timeoutMs: REACH_MS * 2, what: 'a clear error' });
    await free();

    // Too few for all of them: they share what there is.
    const atWork = () => late.every((worker) => worker.log().includes('"msg":"started"'));
    const full = async () => (await connectionsOf(system, 'fleet')) >= MAX_CONNECTIONS - 3 - OURS;
    // The first of them may be done with the rows before the last has started.
    await Promise.all([
      eventually(full, { timeoutMs: 60_000, what: 'a server that is full' }),
      eventually(atWork, { timeoutMs: 60_000, what: 'the start of all workers' }),
    ]);
    await system.probe();
    expect(late.filter(({ running }) => !running)).toEqual([]);
    await app.stop();
    await system.assertFresh();
    await system.assertOneWriter();
    app.assertUndisturbed();
  });
});

/** Connections of the app and the oracle, at most. */
const OURS = 4;

/** The workers' URL, as a role that may not have the superuser's connections. */
async function asFleet({ db, url }: System): Promise<string> {
  await db.exec(`
    CREATE ROLE fleet LOGIN;
    GRANT USAGE ON SCHEMA freshvec, oracle TO fleet;
    GRANT ALL ON doc TO fleet;
    GRANT ALL ON ALL TABLES IN SCHEMA freshvec, oracle TO fleet;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA freshvec, oracle TO fleet;
    GRANT ALL ON ALL FUNCTIONS IN SCHEMA freshvec, oracle TO fleet`);
  const own = new URL(url);
  own.username = 'fleet';
  return own.href;
}

async function connectionsOf({ db }: System, role: string): Promise<number> {
  const [row] = await db.query<{ n: number }>('SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = $1', [
    role,
  ]);
  return row?.n ?? 0;
}

/** Takes every connection that the server has left, or gets back, until it is told to free them. */
function takeAll(url: string): () => Promise<void> {
  const taken: pg.Client[] = [];
  const stop = new AbortController();
  const taking = (async () => {
    while (!stop.signal.aborted) {
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => {}); // The server goes before us when a test fails.
      const had = await client.connect().then(
        () => taken.push(client),
        () => undefined,
      );
      if (had === undefined) await sleep(20);
    }
  })();
  return async () => {
    stop.abort();
    await taking;
    await Promise.all(taken.map((client) => client.end()));
  };
}
