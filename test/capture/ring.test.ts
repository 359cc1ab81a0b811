import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lieDown } from '../../src/claim/sleeper.js';
import { CHANNEL } from '../../src/worker/doorbell.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { type PostgresServer, startPostgres } from '../support/servers.js';

/** A commit waits for a standby that never comes, as for a disk that stalls, unless it is told to be local. */
const STALLING = { synchronous_standby_names: 'nobody', synchronous_commit: 'local' };

let server: PostgresServer;
let fixture: Fixture;
const clients: pg.Client[] = [];

async function app(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.url });
  client.on('error', () => {});
  await client.connect();
  clients.push(client);
  return client;
}

beforeAll(async () => {
  server = await startPostgres({ settings: STALLING });
  await (await app()).query('CREATE EXTENSION vector');
  fixture = await openFixture('postgres', { url: server.url, name: 'postgres', drop: async () => {} });
  await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
});
afterAll(async () => {
  for (const client of clients) await client.end();
  await fixture?.close();
  await server?.stop('immediate');
});

test('an edit does not wait for the commit of another one that rings', async () => {
  const [slow, quick, listener] = [await app(), await app(), await app()];
  let rings = 0;
  listener.on('notification', () => {
    rings += 1;
  });
  await listener.query(`LISTEN ${CHANNEL}`);
  await lieDown(fixture.db);

  await slow.query('SET synchronous_commit = on');
  const stalled = slow.query(`INSERT INTO doc VALUES (1, 'stalled')`);
  const waits = async () =>
    (await quick.query(`SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)).rowCount === 1;
  await eventually(waits, { what: 'the commit that waits' });
  await quick.query(`SET lock_timeout = '2s'`);
  await quick.query(`INSERT INTO doc VALUES (2, 'quick')`);
  await quick.query(`SELECT freshvec.enqueue('doc', '2')`);
  expect(rings).toBe(0);
  // Whoever sleeps looks more often meanwhile.
  expect(await lieDown(fixture.db)).toEqual({ rings: true, ringing: true });

  await quick.query(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`);
  await stalled;
  await eventually(() => rings === 1, { what: 'the ring' });
  expect(await lieDown(fixture.db)).toEqual({ rings: true, ringing: false });
  // Alone, it rings.
  await quick.query(`INSERT INTO doc VALUES (3, 'alone')`);
  await eventually(() => rings === 2, { what: 'its own ring' });
});
