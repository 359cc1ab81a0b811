import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import type { Database } from '../../src/db/database.js';
import { captureNewPartitions, removeSource } from '../../src/source/index.js';
import { addSource, ENGINES, type Subject, takeChanges, takeDistinctKeys, takeKeys } from './support.js';

describe.for(ENGINES)('capture of partitioned tables on %s', ([, open]) => {
  describe.for(['column', 'table'] as const)('with the store %s', (store) => {
    let subject: Subject;
    let db: Database;
    beforeAll(async () => {
      subject = await open();
      db = subject.db;
      await db.query(
        `CREATE TABLE part (id int, region text, t text, n int, PRIMARY KEY (region, id)) PARTITION BY LIST (region)`,
      );
      // Another order of columns, a dropped one, and a level below.
      await db.query('CREATE TABLE part_a (gone int, t text, region text NOT NULL, n int, id int NOT NULL)');
      await db.query('ALTER TABLE part_a DROP COLUMN gone');
      await db.query(`ALTER TABLE part ATTACH PARTITION part_a FOR VALUES IN ('a')`);
      await db.query(`CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b') PARTITION BY RANGE (id)`);
      await db.query('CREATE TABLE part_b_low PARTITION OF part_b FOR VALUES FROM (0) TO (100)');
      await db.query('CREATE TABLE part_b_high PARTITION OF part_b FOR VALUES FROM (100) TO (1000)');
      await db.query(`INSERT INTO part SELECT i, 'a', 'x' FROM generate_series(1, 2000) i`);
      await addSource(db, { table: 'part', content: { columns: ['t'] }, store });
    });
    afterAll(() => subject.close());

    beforeEach(async () => {
      await db.query('TRUNCATE part');
      await db.query(`INSERT INTO part VALUES (1, 'a', 'one'), (1, 'b', 'low'), (100, 'b', 'high')`);
      if (store === 'column') await db.query('UPDATE part SET embedding_stale = false');
      await takeChanges(db);
    });

    const A1 = '["a", "1"]';
    const B1 = '["b", "1"]';
    const B100 = '["b", "100"]';

    test('each leaf has its pages visited', async () => {
      const rows = await db.query<{ name: string; pages: number }>(
        `SELECT relation_oid::regclass::text AS name, sum(to_page - from_page)::int AS pages FROM freshvec.range
         WHERE purpose = 'load' AND to_page < 4294967295 GROUP BY 1`,
      );
      expect(rows).toEqual([{ name: 'part_a', pages: expect.any(Number) }]);
      expect(rows[0]?.pages).toBeGreaterThan(8);
    });

    test('writes aimed at the parent', async () => {
      await db.query(`UPDATE part SET t = t || '!'`);
      expect(await takeDistinctKeys(db)).toEqual([A1, B1, B100]);
      await db.query('UPDATE part SET n = 1');
      expect(await takeKeys(db)).toEqual([]);
      await db.query(`INSERT INTO part VALUES (7, 'a', 'x'), (101, 'b', 'y')`);
      expect(await takeKeys(db)).toEqual(['["a", "7"]', '["b", "101"]']);
    });

    test('writes aimed at a leaf, and at a level between', async () => {
      await db.query(`UPDATE part_a SET t = 'new'`);
      expect(await takeKeys(db)).toEqual([A1]);
      await db.query(`INSERT INTO part_b_low (id, region, t) VALUES (5, 'b', 'x')`);
      expect(await takeKeys(db)).toEqual(['["b", "5"]']);
      await db.query(`INSERT INTO part_b (id, region, t) VALUES (6, 'b', 'x')`);
      expect(await takeKeys(db)).toEqual(['["b", "6"]']);
      await db.query(`UPDATE part_b SET t = 'new' WHERE id IN (1, 100)`);
      expect(await takeDistinctKeys(db)).toEqual([B1, B100]);
    });

    test('rows that move between partitions', async () => {
      await db.query(`UPDATE part SET region = 'b', id = 50 WHERE region = 'a'`);
      const arrived = '["b", "50"]';
      expect(await takeKeys(db)).toEqual(store === 'column' ? [arrived] : [A1, arrived]);
      await db.query('UPDATE part_b SET id = 150 WHERE id = 50');
      const farther = '["b", "150"]';
      expect(await takeKeys(db)).toEqual(store === 'column' ? [farther] : [farther, arrived]);
      if (store !== 'column') return;
      const [row] = await db.query(`SELECT embedding_stale AS stale FROM part WHERE id = 150`);
      expect(row).toEqual({ stale: true });
    });

    test('ON CONFLICT, and replica', async () => {
      await db.query(
        `INSERT INTO part VALUES (1, 'a', 'other'), (2, 'a', 'x') ON CONFLICT (region, id) DO UPDATE SET t = excluded.t`,
      );
      expect(await takeKeys(db)).toEqual([A1, '["a", "2"]']);
      await db.tx(async (tx) => {
        await tx.query('SET LOCAL session_replication_role = replica');
        await tx.query(`UPDATE part SET t = 'replica' WHERE id = 100`);
        await tx.query(`UPDATE part_b_low SET t = 'replica'`);
        await tx.query(`INSERT INTO part_a (id, region, t) VALUES (9, 'a', 'x')`);
        await tx.query('UPDATE part SET n = 4');
      });
      expect(await takeKeys(db)).toEqual(expect.arrayContaining(['["a", "9"]', B1, B100]));
    });

    test('DELETE and TRUNCATE through parent and leaf', async () => {
      await db.query('DELETE FROM freshvec.range');
      await db.query(`DELETE FROM part WHERE region = 'a'`);
      await db.query('DELETE FROM part_b_low');
      expect(await takeKeys(db)).toEqual(store === 'column' ? [] : [A1, B1]);
      await db.query('TRUNCATE part_b_high');
      const ranges = await db.query('SELECT DISTINCT purpose FROM freshvec.range');
      expect(ranges).toEqual(store === 'column' ? [] : [{ purpose: 'prune' }]);
    });

    test('the row triggers of a leaf are enabled like those of the parent, on leaves added later too', async () => {
      await db.query(`CREATE TABLE part_c PARTITION OF part FOR VALUES IN ('c')`);
      const enabled = await db.query<{ name: string; states: string }>(
        `SELECT t.tgname AS name, string_agg(DISTINCT t.tgenabled::text, '' ORDER BY t.tgenabled::text) AS states, count(*)::int AS n
         FROM pg_trigger t WHERE t.tgrelid IN (SELECT relid FROM pg_partition_tree('part'))
           AND (t.tgname LIKE 'zzz_freshvec_flag%' OR t.tgname LIKE 'freshvec_replica%')
         GROUP BY 1 ORDER BY 1 DESC`,
      );
      const states = [{ states: 'R', n: 6 }];
      expect(enabled).toMatchObject(store === 'column' ? [{ states: 'A', n: 6 }, ...states] : states);
      await db.query(`INSERT INTO part VALUES (1, 'c', 'x')`);
      expect(await takeKeys(db)).toEqual(['["c", "1"]']);
      await db.query('DROP TABLE part_c');
      await takeKeys(db);
    });

    test('a partition that comes with its rows is captured from the next maintenance on', async () => {
      await db.query('DELETE FROM freshvec.range');
      await db.query('CREATE TABLE part_d (LIKE part INCLUDING ALL)');
      await db.query(`INSERT INTO part_d (id, region, t) VALUES (1, 'd', 'x')`);
      await db.query(`ALTER TABLE part ATTACH PARTITION part_d FOR VALUES IN ('d')`);
      const source = await getSource(db, 'part');
      expect(await captureNewPartitions(db, source)).toEqual(['public.part_d']);
      expect(await captureNewPartitions(db, source)).toEqual([]);
      const ranges = await db.query(
        'SELECT DISTINCT relation_oid::regclass::text AS name, purpose FROM freshvec.range',
      );
      expect(ranges).toEqual([{ name: 'part_d', purpose: 'load' }]);
      await db.query(`UPDATE part_d SET t = 'new'`);
      expect(await takeKeys(db)).toEqual(['["d", "1"]']);
      await db.query('DROP TABLE part_d');
    });

    test('a partition goes and comes back', async () => {
      await db.query('ALTER TABLE part DETACH PARTITION part_a');
      await db.query(`ALTER TABLE part ATTACH PARTITION part_a FOR VALUES IN ('a')`);
      await db.query(`UPDATE part SET t = 'new' WHERE region = 'a'`);
      expect(await takeKeys(db)).toEqual([A1]);
      await db.query(`UPDATE part_a SET t = 'newer'`);
      expect(await takeKeys(db)).toEqual([A1]);
    });

    test('remove finds the triggers everywhere, on a partition that was detached too', async () => {
      await db.query('ALTER TABLE part DETACH PARTITION part_a');
      await removeSource(db, 'part', { dropVectors: true });
      const [left] = await db.query(`SELECT count(*)::int AS n FROM pg_trigger WHERE tgname LIKE '%freshvec%'`);
      expect(left).toEqual({ n: 0 });
    });
  });
});
