import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { getSource } from '../../src/catalog/source.js';
import { alterSource } from '../../src/source/index.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { Drainer } from '../../src/worker/drainer.js';
import { createModels } from '../../src/worker/models.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
let app: pg.Client;
beforeEach(async () => {
  fixture = await openFixture();
  app = new pg.Client({ connectionString: fixture.url });
  await app.connect();
});
afterEach(async () => {
  await app.end();
  await fixture.close();
});

const definition = { content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' } as const;
const isFresh = async (table: string, id: number) =>
  (await fixture.db.query(`SELECT FROM ${table} WHERE id = $1 AND embedding IS NOT NULL`, [id])).length > 0;

test('a row that the app held is written when it lets go, although there is more to claim', async () => {
  const { db } = fixture;
  await db.exec(
    `CREATE TABLE doc (id int PRIMARY KEY, body text); INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 3000) i`,
  );
  const { space } = await fixture.add({ table: 'doc', ...definition });
  const models = createModels({ requestTimeoutMs: 5_000, fake: { latencyMs: 20 } });
  const gates = createGates(db, {}, () => {});
  const drainer = new Drainer({ db, models, gates, worker: 'test', batchKeys: 10 });
  const stop = new AbortController();
  await app.query('BEGIN; SELECT FROM doc WHERE id = 1 FOR UPDATE');
  const draining = drainer.drain(space.id, { stop: stop.signal, cut: stop.signal });
  try {
    await eventually(() => isFresh('doc', 5), { what: 'its neighbours' });
    await app.query('COMMIT');
    await eventually(() => isFresh('doc', 1), { what: 'the row', timeoutMs: 3_000 });
    expect(await isFresh('doc', 3000)).toBe(false);
  } finally {
    stop.abort();
    await draining;
    await drainer.close();
    await gates.close();
    await models.close();
  }
});

test('a worker whose time is up writes no more, and gives the rest back', async () => {
  const { db, models } = fixture;
  // Writes beside an index are small: a batch takes many.
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, other vector(3));
    CREATE INDEX ON doc USING hnsw (other vector_l2_ops);
    INSERT INTO doc SELECT i, 'text ' || i, ARRAY[i, 1, 0]::vector FROM generate_series(1, 300) i`);
  const { space } = await fixture.add({ table: 'doc', ...definition });
  const cut = new AbortController();
  const watched = instead(db, {
    async tx(fn, options) {
      const result = await db.tx(fn, options);
      if (options?.flushed === false) cut.abort();
      return result;
    },
  });
  const gates = createGates(db, {}, () => {});
  const drainer = new Drainer({ db: watched, models, gates, worker: 'test', batchKeys: 200 });
  const { written } = await drainer.drain(space.id, { stop: cut.signal, cut: cut.signal });
  await drainer.close();
  await gates.close();
  expect(cut.signal.aborted).toBe(true);
  expect(written).toBeGreaterThan(0);
  expect(written).toBeLessThan(200);
  expect(await db.query('SELECT FROM freshvec.lease')).toEqual([]);
  await fixture.work();
  expect(await db.query('SELECT FROM doc WHERE embedding IS NULL')).toEqual([]);
});

test('a source whose row is held keeps nobody from the others', async () => {
  const { db } = fixture;
  await db.exec(`CREATE TABLE held (id int PRIMARY KEY, body text); CREATE TABLE other (LIKE held INCLUDING ALL);
    INSERT INTO held VALUES (1, 'one'); INSERT INTO other VALUES (1, 'one')`);
  await fixture.add({ table: 'held', ...definition });
  await fixture.add({ table: 'other', ...definition });
  await app.query('BEGIN; SELECT FROM held WHERE id = 1 FOR UPDATE');
  const working = fixture.work();
  await eventually(() => isFresh('other', 1), { what: 'the other source', timeoutMs: 30_000 });
  await app.query('COMMIT');
  await working;
  expect(await isFresh('held', 1)).toBe(true);
});

test('what a worker read before an alter is looked at once more', async () => {
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text); INSERT INTO doc VALUES (1, 'one'), (2, 'two')`);
  const { space } = await fixture.add({ table: 'doc', ...definition });
  const source = await getSource(db, 'doc');
  await db.query(
    `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since) VALUES ($1, '1', gen_random_uuid(), now() + interval '1 h', now())`,
    [space.id],
  );
  await alterSource(db, 'doc', { where: 'id > 1' });
  expect(await db.query('SELECT key, again FROM freshvec.lease')).toEqual([{ key: '1', again: true }]);
  const extension = await db.vectorExtension();
  if (!extension) throw new Error('no pgvector');
  const store = openStore(source, space, await vectorCodec(db, extension));
  // Whoever claims under the definition before reads nothing.
  await expect(db.tx((tx) => store.read(tx, ['2']))).rejects.toMatchObject({ code: 'space_renamed' });
});

test('what is given back is as old as it was', async () => {
  const { db, models } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text); INSERT INTO doc VALUES (1, 'one')`);
  const { space } = await fixture.add({ table: 'doc', ...definition });
  await fixture.work();
  await db.query(`UPDATE doc SET body = 'other'`);
  const at = async () => (await db.query<{ at: Date }>('SELECT at FROM freshvec.change'))[0]?.at;
  const before = await at();
  await sleep(50);
  const gates = createGates(db, {}, () => {});
  const failing = {
    ...models,
    forSpace: async () => ({
      ...(await models.forSpace(space)),
      embed: () => Promise.reject(new Error('it broke')),
    }),
  };
  const drainer = new Drainer({ db, models: failing, gates, worker: 'test', batchKeys: 10 });
  const { signal } = new AbortController();
  await drainer.drain(space.id, { stop: signal, cut: signal }).catch(() => {});
  await drainer.close();
  await gates.close();
  expect(before).toBeDefined();
  expect((await db.query('SELECT FROM freshvec.lease')).length).toBe(0);
  expect(await at()).toEqual(before);
});
