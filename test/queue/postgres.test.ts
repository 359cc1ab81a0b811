import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import { openQueue } from '../../src/queue/open.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { startPostgres } from '../support/servers.js';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await freshDatabase();
  db = openPostgres({ url: database.url, poolSize: 2, applicationName: 'test', onError: () => undefined });
});
afterAll(async () => {
  await db.close();
  await database.drop();
});

const open = (errors: Error[]) =>
  openQueue({ backend: 'postgres', url: database.url }, { onError: (error) => errors.push(error) });

test("BullMQ's tables stand in a schema of their own; opening many at once makes it once", async () => {
  const errors: Error[] = [];
  const queues = await Promise.all([open(errors), open(errors), open(errors)]);
  await Promise.all(queues.map((queue) => queue.close()));
  expect(errors).toEqual([]);
  const schemas = await db.query(
    `SELECT DISTINCT n.nspname AS schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relname IN ('job', 'migration') AND n.nspname <> 'freshvec'`,
  );
  expect(schemas).toEqual([{ schema: 'freshvec_bullmq' }]);
});

test('options of the URL hold beside those that BullMQ needs', async () => {
  const options = encodeURIComponent('-c statement_timeout=60s -c search_path=public');
  const url = `${database.url}${database.url.includes('?') ? '&' : '?'}options=${options}`;
  const errors: Error[] = [];
  const queue = await openQueue({ backend: 'postgres', url }, { onError: (error) => errors.push(error) });
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 1 });
  expect(await queue.wake({ spaceId: 7, slot: 0 })).toBe(true);
  await eventually(() => handled.includes(7), { what: 'a drain' });
  await queue.close();
  expect(errors).toEqual([]);
});

test('connections that are killed come back by themselves', async () => {
  const errors: Error[] = [];
  const queue = await open(errors);
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 2 });
  await queue.wake({ spaceId: 1, slot: 0 });
  await eventually(() => handled.includes(1));
  await db.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name ~ '^freshvec-' AND pid <> pg_backend_pid()`,
  );
  const wakes = async () => (await queue.wake({ spaceId: 2, slot: 0 })) && handled.includes(2);
  await eventually(wakes, { what: 'a drain on new connections', intervalMs: 100 });
  await queue.close();
});

test("an app's own tables of BullMQ's names are not touched", async () => {
  await db.exec('CREATE TABLE public.job (id int); CREATE TABLE public.meta (id int)');
  const errors: Error[] = [];
  const queue = await open(errors);
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 1 });
  await queue.wake({ spaceId: 1, slot: 0 });
  await eventually(() => handled.length === 1);
  await queue.close();
  expect(errors).toEqual([]);
  expect(await db.query('SELECT count(*)::int AS n FROM public.job')).toEqual([{ n: 0 }]);
});

test('a server that is killed and comes back: wakes fail fast, then work again', async () => {
  const server = await startPostgres();
  const errors: Error[] = [];
  const options = { backend: 'postgres', url: server.url } as const;
  const queue = await openQueue(options, { onError: (error) => errors.push(error) });
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 2 });
  await queue.wake({ spaceId: 1, slot: 0 });
  await eventually(() => handled.includes(1));
  await server.down('kill');
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    expect(await queue.wake({ spaceId: 100 + i, slot: 0 })).toBe(false);
    expect(performance.now() - start).toBeLessThan(1_500);
  }
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  await server.up();
  const wakes = async () => (await queue.wake({ spaceId: 2, slot: 0 })) && handled.includes(2);
  await eventually(wakes, { what: 'a drain after the restart', intervalMs: 100, timeoutMs: 20_000 });
  await queue.close();
  await server.stop();
});
