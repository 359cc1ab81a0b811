import { afterAll, beforeAll, expect, test } from 'vitest';
import { asAdmin } from './admin.js';
import { eventually } from './eventually.js';
import { type Replica, startReplica } from './replica.js';
import { type PostgresServer, startPostgres } from './servers.js';

let server: PostgresServer;
let replica: Replica;
beforeAll(async () => {
  server = await startPostgres({ settings: { max_connections: 150 } });
  await run(server.url, 'CREATE DATABASE app');
  replica = await startReplica(server.url, { name: 'the "one"', slot: 'one' });
}, 120_000);
afterAll(async () => {
  await replica?.stop();
  await server?.stop();
});

const run = (url: string, sql: string) => asAdmin(url, (admin) => admin.query(sql));
const count = async (url: string) => (await run(url, 'SELECT FROM t')).rowCount;

test('it follows, stops following, and follows on', async () => {
  const primary = new URL(server.url);
  primary.pathname = '/app';
  const url = replica.databaseUrl(primary.href);
  await run(primary.href, 'CREATE TABLE t (i int); INSERT INTO t VALUES (1)');
  await replica.caughtUp();
  expect(await count(url)).toBe(1);
  await replica.pause();
  await run(primary.href, 'INSERT INTO t VALUES (2)');
  await expect(run(url, 'INSERT INTO t VALUES (3)')).rejects.toThrow(/read-only transaction/);
  expect(await count(url)).toBe(1);
  await replica.resume();
  await replica.caughtUp();
  expect(await count(url)).toBe(2);
  await replica.down('kill');
  await run(primary.href, 'INSERT INTO t VALUES (3)');
  await replica.up();
  await replica.caughtUp();
  expect(await count(url)).toBe(3);
});

test('the primary knows it by its name; promoted, it takes writes of its own', async () => {
  const names = () =>
    run(server.url, 'SELECT application_name AS name FROM pg_stat_replication').then(({ rows }) => rows);
  expect(await names()).toEqual([{ name: replica.name }]);
  await replica.promote();
  await run(replica.url, 'CREATE TABLE own (i int)');
  await eventually(async () => (await names()).length === 0, { what: 'the end of the streaming' });
  await replica.stop();
  expect((await run(server.url, 'SELECT FROM pg_replication_slots')).rowCount).toBe(0);
});
