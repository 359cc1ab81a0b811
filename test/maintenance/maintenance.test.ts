import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { coverLeaves } from '../../src/maintenance/cover-leaves.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;

beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

const indexes = (table: string) =>
  fixture.db.query<{ name: string; valid: boolean; def: string }>(
    `SELECT c.relname AS name, i.indisvalid AS valid, pg_get_indexdef(i.indexrelid) AS def
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
     WHERE a.amname = 'hnsw' AND i.indrelid IN (
       SELECT $1::text::regclass::oid UNION SELECT relid FROM pg_partition_tree($1::text::regclass))
     ORDER BY 1`,
    [table],
  );

describe('index', () => {
  test('is built after the first pass, with the operator class of the metric, and only once', async () => {
    await fixture.db.exec(
      `CREATE TABLE a (id int PRIMARY KEY, body text); INSERT INTO a SELECT i, 'text ' || i FROM generate_series(1, 300) i`,
    );
    const { source, space } = await fixture.add({
      table: 'a',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      metric: 'l2',
      m: 8,
      efConstruction: 32,
    });
    expect(await buildIndexes(fixture.db)).toBe(0);
    expect(await indexState(fixture.db, source, space)).toBe('none');
    await fixture.work();
    expect(await buildIndexes(fixture.db)).toBe(1);
    expect(await buildIndexes(fixture.db)).toBe(0);
    const built = await indexes('a');
    expect(built).toMatchObject([{ valid: true }]);
    expect(built[0]?.def).toContain('vector_l2_ops');
    expect(built[0]?.def).toContain(`m='8'`);
  });

  test('an invalid left-over of ours is mended, and a stranger under our name is not touched', async () => {
    await fixture.db.exec(`CREATE TABLE b (id int PRIMARY KEY, body text); INSERT INTO b VALUES (1, 'x')`);
    const { source, space } = await fixture.add({ table: 'b', content: { columns: ['body'] }, model: 'fake/m@8' });
    await fixture.work();
    await ensureIndex(fixture.db, source, space);
    await fixture.db.exec(
      `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'freshvec_space_${space.id}'::regclass`,
    );
    expect(await indexState(fixture.db, source, space)).toBe('building');
    expect(await ensureIndex(fixture.db, source, space)).toBe('built');
    expect(await indexes('b')).toMatchObject([{ valid: true }]);
    await fixture.db.exec(`DROP INDEX freshvec_space_${space.id}; CREATE INDEX freshvec_space_${space.id} ON b (body)`);
    await expect(ensureIndex(fixture.db, source, space)).rejects.toMatchObject({ code: 'index_taken' });
    await expect(buildIndexes(fixture.db)).rejects.toMatchObject({ code: 'index_taken' });
    await fixture.db.exec(`DROP INDEX freshvec_space_${space.id}`);
    expect(await buildIndexes(fixture.db)).toBe(1);
  });

  test('on a partitioned source every leaf has one, attached, sub-partitions too', async () => {
    await fixture.db.exec(`
      CREATE TABLE p (tenant int, id int, body text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
      CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
      CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2) PARTITION BY RANGE (id);
      CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (0) TO (100);
      INSERT INTO p SELECT t, i, t || ' ' || i FROM generate_series(1, 2) t, generate_series(1, 50) i`);
    await fixture.add({ table: 'p', content: { columns: ['body'] }, model: 'fake/m@8' });
    await fixture.work();
    expect(await buildIndexes(fixture.db)).toBe(1);
    const built = await indexes('p');
    expect(built.length).toBe(4);
    expect(built.every(({ valid }) => valid)).toBe(true);
    expect(await buildIndexes(fixture.db)).toBe(0);
  });

  test('vectors in a table of their own are indexed there', async () => {
    await fixture.db.exec(`CREATE TABLE d (id int PRIMARY KEY, body text); INSERT INTO d VALUES (1, 'x')`);
    const { space } = await fixture.add({
      table: 'd',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      store: 'table',
      type: 'halfvec',
      metric: 'ip',
    });
    await fixture.work();
    await buildIndexes(fixture.db);
    const built = await indexes(`freshvec.vector_${space.id}`);
    expect(built).toMatchObject([{ valid: true }]);
    expect(built[0]?.def).toContain('halfvec_ip_ops');
  });
});

describe('leaves', () => {
  test('a partition that came later is covered, and what came in unseen is embedded', async () => {
    await fixture.db.exec(`
      CREATE TABLE q (tenant int, id int, body text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
      CREATE TABLE q1 PARTITION OF q FOR VALUES IN (1)`);
    const { store } = await fixture.add({ table: 'q', content: { columns: ['body'] }, model: 'fake/m@8' });
    await fixture.work();
    expect(await coverLeaves(fixture.db)).toBe(0);
    await fixture.db.exec(`
      CREATE TABLE q2 PARTITION OF q FOR VALUES IN (2);
      INSERT INTO q2 VALUES (2, 1, 'aimed at the leaf')`);
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1, fresh: 0 });
    expect(await coverLeaves(fixture.db)).toBe(1);
    expect(await coverLeaves(fixture.db)).toBe(0);
    await fixture.db.exec(`INSERT INTO q2 VALUES (2, 2, 'seen')`);
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 2, fresh: 2 });
  });
});

test('the modes of our triggers are put back after a restore, and a disabled one stays so', async () => {
  await fixture.db.exec(
    `CREATE TABLE modes (id int, n int, body text, PRIMARY KEY (id, n)) PARTITION BY LIST (n);
     CREATE TABLE modes_1 PARTITION OF modes FOR VALUES IN (1)`,
  );
  const { source } = await fixture.add({
    table: 'modes',
    content: { columns: ['body'] },
    model: 'fake/m@8',
    store: 'column',
  });
  const modes = async (table: string) =>
    Object.fromEntries(
      (
        await fixture.db.query<{ name: string; mode: string }>(
          `SELECT tgname AS name, tgenabled AS mode FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal`,
          [table],
        )
      ).map(({ name, mode }) => [name.replace(`_${source.id}`, ''), mode]),
    );
  const before = [await modes('modes'), await modes('modes_1')];
  expect(before[0]).toMatchObject({ zzz_freshvec_flag: 'A', freshvec_replica: 'R', freshvec_insert: 'O' });
  await fixture.db.exec('ALTER TABLE modes DISABLE TRIGGER ALL; ALTER TABLE modes ENABLE TRIGGER ALL');
  expect(await modes('modes')).toMatchObject({ zzz_freshvec_flag: 'O', freshvec_replica: 'O' });
  expect(await coverLeaves(fixture.db)).toBe(1);
  expect([await modes('modes'), await modes('modes_1')]).toEqual(before);
  await fixture.db.exec('ALTER TABLE modes DISABLE TRIGGER ALL');
  expect(await coverLeaves(fixture.db)).toBe(0);
  expect(await modes('modes')).toMatchObject({ zzz_freshvec_flag: 'D' });
});

describe('sweep', () => {
  test('finds what capture did not see, and pays for nothing else', async () => {
    await fixture.db.exec(
      `CREATE TABLE s (id int PRIMARY KEY, body text); INSERT INTO s SELECT i, 'text ' || i FROM generate_series(1, 100) i`,
    );
    const { store } = await fixture.add({
      table: 's',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      store: 'table',
      index: 'none',
    });
    await fixture.work();
    await fixture.db.exec(`
      ALTER TABLE s DISABLE TRIGGER USER;
      UPDATE s SET body = 'unseen' WHERE id = 1; DELETE FROM s WHERE id = 2; INSERT INTO s VALUES (101, 'new');
      ALTER TABLE s ENABLE TRIGGER USER`);
    expect(await fixture.work()).toMatchObject({ claimed: 0 });
    expect(await sweep(fixture.db, 's')).toBe(1);
    expect(await sweep(fixture.db, 's')).toBe(0);
    expect(await fixture.work()).toMatchObject({ claimed: 3, written: 2, unpaid: 1 });
    expect(await fixture.db.tx((tx) => store.count(tx))).toEqual({ rows: 100, fresh: 100, failed: 0, vectors: 100 });
  });

  test('does not keep the app from emptying its table', async () => {
    await fixture.db.exec(`CREATE TABLE emptied (id int PRIMARY KEY, body text); INSERT INTO emptied VALUES (1, 'x')`);
    await fixture.add({
      table: 'emptied',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      store: 'table',
      index: 'none',
    });
    await fixture.work();
    const truncate = () =>
      fixture.db.session(async (app) => {
        await app.query(`SET lock_timeout = '200ms'`);
        await app.query('TRUNCATE emptied');
      });
    const sweeping = instead(fixture.db, {
      tx: (run) =>
        fixture.db.tx(async (tx) => {
          const swept = await run(tx);
          await truncate();
          return swept;
        }),
    });
    expect(await sweep(sweeping, 'emptied')).toBe(1);
    await fixture.work();
  });

  test('a table that was rewritten while its pages were to be visited is visited anew', async () => {
    await fixture.db.exec(
      `CREATE TABLE r (id int PRIMARY KEY, body text); INSERT INTO r SELECT i, 'text ' || i FROM generate_series(1, 2000) i`,
    );
    const { store } = await fixture.add({
      table: 'r',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      index: 'none',
    });
    await fixture.db.query('DELETE FROM r WHERE id <= 1000');
    await fixture.db.session((session) => session.query('VACUUM FULL r'));
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1000, fresh: 1000 });
  });
});
