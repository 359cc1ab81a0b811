import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { addSource, ENGINES, type Subject, takeChanges, takeDistinctKeys, takeKeys } from './support.js';

describe.for(ENGINES)('capture on %s', ([, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
    await db.query(
      `CREATE TABLE memory (id bigint PRIMARY KEY, title text, body text, seen int NOT NULL DEFAULT 0, who text)`,
    );
    await addSource(db, { table: 'memory', content: { columns: ['title', 'body'] }, tenant: 'who', store: 'column' });
    await db.query('CREATE TABLE page (id bigint PRIMARY KEY, title text, seen int NOT NULL DEFAULT 0, who text)');
    await addSource(db, { table: 'page', content: { columns: ['title'] }, tenant: 'who', store: 'table' });
  });
  afterAll(() => subject.close());

  /** Rows 1 to 3, at rest: flags down, log empty. */
  beforeEach(async () => {
    await db.query('TRUNCATE memory, page');
    await db.query(`INSERT INTO memory SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 3) i`);
    await db.query(`INSERT INTO page SELECT i, 'title ' || i FROM generate_series(1, 3) i`);
    await db.query('UPDATE memory SET embedding_stale = false');
    await takeChanges(db);
    await db.query('DELETE FROM freshvec.range');
  });

  const stale = async () =>
    (await db.query<{ id: number }>('SELECT id FROM memory WHERE embedding_stale ORDER BY id')).map((row) => row.id);

  describe('vectors on the rows', () => {
    test('INSERT, of one row and of many', async () => {
      await db.query(`INSERT INTO memory VALUES (4, 'x', 'y')`);
      expect(await takeKeys(db)).toEqual(['4']);
      await db.query(`INSERT INTO memory SELECT i, 'x', 'y' FROM generate_series(5, 9) i`);
      expect(await takeKeys(db)).toEqual(['5', '6', '7', '8', '9']);
      expect(await stale()).toEqual([4, 5, 6, 7, 8, 9]);
    });

    test('COPY', async () => {
      if (db.kind === 'postgres') {
        await db.query(`COPY memory (id, title) FROM PROGRAM 'printf "7\\tseven\\n8\\teight\\n"'`);
      } else {
        await db.query(`COPY (SELECT i, 'x' FROM generate_series(7, 8) i) TO '/tmp/freshvec.copy'`);
        await db.query(`COPY memory (id, title) FROM '/tmp/freshvec.copy'`);
      }
      expect(await takeKeys(db)).toEqual(['7', '8']);
    });

    test('UPDATE of content, and only of the rows that it changes', async () => {
      await db.query(`UPDATE memory SET title = CASE id WHEN 2 THEN 'new' ELSE title END`);
      expect(await takeKeys(db)).toEqual(['2']);
      expect(await stale()).toEqual([2]);
    });

    test('UPDATE of other columns writes no change, whatever went before in the transaction', async () => {
      await db.query('UPDATE memory SET seen = seen + 1');
      await db.query('UPDATE memory SET title = title, body = body');
      expect(await takeKeys(db)).toEqual([]);
      await db.tx(async (tx) => {
        await tx.query(`UPDATE memory SET title = 'new' WHERE id = 1`);
        await tx.query('UPDATE memory SET seen = seen + 1 WHERE id <> 1');
      });
      expect(await takeKeys(db)).toEqual(['1']);
    });

    test('from NULL and to NULL', async () => {
      await db.query('UPDATE memory SET body = NULL WHERE id = 1');
      await db.query(`UPDATE memory SET body = 'b' WHERE id = 1`);
      expect(await takeKeys(db)).toEqual(['1', '1']);
    });

    test('a changed key', async () => {
      await db.query('UPDATE memory SET id = 30 WHERE id = 3');
      expect(await takeKeys(db)).toEqual(['30']);
      expect(await stale()).toEqual([30]);
    });

    test('the flag, raised by hand', async () => {
      await db.query('UPDATE memory SET embedding_stale = true WHERE id = 2');
      expect(await takeKeys(db)).toEqual(['2']);
      await db.query('UPDATE memory SET embedding_stale = false WHERE id = 2');
      expect(await takeKeys(db)).toEqual([]);
    });

    test("a worker's own write is no change", async () => {
      await db.query(
        `UPDATE memory SET embedding = '[1,2,3,4,5,6,7,8]', embedding_model = 'm', embedding_stale = false`,
      );
      expect(await takeKeys(db)).toEqual([]);
    });

    test('INSERT … ON CONFLICT DO UPDATE, both ways at once', async () => {
      await db.query(
        `INSERT INTO memory VALUES (2, 'two'), (3, 'title 3'), (5, 'five')
         ON CONFLICT (id) DO UPDATE SET title = excluded.title`,
      );
      expect(await takeKeys(db)).toEqual(['2', '5']);
      await db.query(`INSERT INTO memory VALUES (2, 'other') ON CONFLICT DO NOTHING`);
      expect(await takeKeys(db)).toEqual([]);
    });

    test('MERGE', async () => {
      await db.query(
        `MERGE INTO memory m USING (VALUES (1, 'one'), (2, 'title 2'), (9, 'nine')) AS v(id, title) ON v.id = m.id
         WHEN MATCHED THEN UPDATE SET title = v.title WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, v.title)`,
      );
      expect(await takeKeys(db)).toEqual(['1', '9']);
    });

    test('UPDATE … FROM, a data-modifying CTE, and a cascade from a function', async () => {
      await db.query(`UPDATE memory SET title = 'f' FROM (VALUES (1)) v(id) WHERE memory.id = v.id`);
      await db.query(`WITH u AS (UPDATE memory SET title = 'cte' WHERE id = 2 RETURNING 1) SELECT * FROM u`);
      await db.query(`DO $$ BEGIN UPDATE memory SET title = 'do' WHERE id = 3; END $$`);
      expect(await takeKeys(db)).toEqual(['1', '2', '3']);
    });

    test('what is rolled back was never there, a savepoint included', async () => {
      await db.tx(async (tx) => {
        await tx.query('SAVEPOINT s');
        await tx.query(`UPDATE memory SET title = 'gone' WHERE id = 1`);
        await tx.query('ROLLBACK TO SAVEPOINT s');
        await tx.query(`UPDATE memory SET title = 'kept' WHERE id = 2`);
      });
      expect(await takeKeys(db)).toEqual(['2']);
    });

    test('DELETE and TRUNCATE take the vectors with the rows and write nothing', async () => {
      await db.query('DELETE FROM memory WHERE id = 1');
      await db.query('TRUNCATE memory');
      expect(await takeKeys(db)).toEqual([]);
      expect(await db.query('SELECT * FROM freshvec.range')).toEqual([]);
    });

    test('the tenant comes along', async () => {
      await db.query(`INSERT INTO memory (id, title, who) VALUES (8, 'x', 'acme')`);
      await db.query(`UPDATE memory SET title = 'new', who = 'beta' WHERE id = 1`);
      expect((await takeChanges(db)).map(({ key, tenant }) => [key, tenant])).toEqual([
        ['1', 'beta'],
        ['8', 'acme'],
      ]);
    });

    test('more than 1,000 rows go into the bulk lane', async () => {
      const lanes = async () => [...new Set((await takeChanges(db)).map(({ lane }) => lane))];
      await db.query(`INSERT INTO memory SELECT i, 'x' FROM generate_series(10, 1009) i`);
      expect(await lanes()).toEqual([0]);
      await db.query(`INSERT INTO memory SELECT i, 'x' FROM generate_series(2000, 3000) i`);
      expect(await lanes()).toEqual([1]);
      await db.query(`UPDATE memory SET title = 'y' WHERE id BETWEEN 2000 AND 2999`);
      expect(await lanes()).toEqual([0]);
      await db.query(`UPDATE memory SET title = 'z' WHERE id BETWEEN 2000 AND 3000`);
      // All of them; the first one also for itself, before anybody knew.
      expect((await lanes()).sort()).toEqual([0, 1]);
    });

    test('session_replication_role = replica', async () => {
      await db.tx(async (tx) => {
        await tx.query('SET LOCAL session_replication_role = replica');
        await tx.query(`INSERT INTO memory (id, title) VALUES (4, 'x')`);
        await tx.query(`UPDATE memory SET title = 'new' WHERE id = 1`);
        await tx.query('UPDATE memory SET seen = 1 WHERE id = 2');
      });
      expect(await takeDistinctKeys(db)).toEqual(['1', '4']);
      expect(await stale()).toEqual([1, 4]);
    });
  });

  describe('vectors in a table of their own', () => {
    test('INSERT, UPDATE of content, UPDATE of other columns', async () => {
      await db.query(`INSERT INTO page VALUES (4, 'x'), (5, 'y')`);
      expect(await takeKeys(db)).toEqual(['4', '5']);
      await db.query(`UPDATE page SET title = CASE id WHEN 2 THEN 'new' ELSE title END, seen = 1`);
      expect(await takeKeys(db)).toEqual(['2']);
      await db.query('UPDATE page SET seen = seen + 1');
      expect(await takeKeys(db)).toEqual([]);
    });

    test('a changed key is two changes: one row came, one vector must go', async () => {
      await db.query('UPDATE page SET id = id + 1 WHERE id = 3');
      expect(await takeKeys(db)).toEqual(['3', '4']);
      await db.query('UPDATE page SET id = id + 10');
      expect(await takeKeys(db)).toEqual(['1', '11', '12', '14', '2', '4']);
    });

    test('DELETE, with its tenant and lane', async () => {
      await db.query(`UPDATE page SET who = 'acme'`);
      await db.query('DELETE FROM page WHERE id = 2');
      expect(await takeChanges(db)).toMatchObject([{ key: '2', tenant: 'acme', lane: 0 }]);
      await db.query(`INSERT INTO page SELECT i, 'x' FROM generate_series(10, 1100) i`);
      await takeChanges(db);
      await db.query('DELETE FROM page');
      expect(new Set((await takeChanges(db)).map(({ lane }) => lane))).toEqual(new Set([1]));
    });

    test('TRUNCATE has the space pruned, under replica too', async () => {
      await db.query('TRUNCATE page');
      const ranges = () => db.query('SELECT purpose, filenode::int, from_page, to_page FROM freshvec.range');
      const prune = { purpose: 'prune', filenode: 0, from_page: 0, to_page: 0 };
      expect(await ranges()).toEqual([prune]);
      await db.tx(async (tx) => {
        await tx.query('SET LOCAL session_replication_role = replica');
        await tx.query('TRUNCATE page');
      });
      expect(await ranges()).toEqual([prune, prune]);
      expect(await takeKeys(db)).toEqual([]);
    });

    test('ON CONFLICT and MERGE, with its DELETE', async () => {
      await db.query(`INSERT INTO page VALUES (2, 'two'), (3, 'title 3'), (5, 'five')
                      ON CONFLICT (id) DO UPDATE SET title = excluded.title`);
      expect(await takeKeys(db)).toEqual(['2', '5']);
      await db.query(
        `MERGE INTO page p USING (VALUES (1, 'one'), (2, NULL), (9, 'nine')) AS v(id, title) ON v.id = p.id
         WHEN MATCHED AND v.title IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET title = v.title
         WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, v.title)`,
      );
      expect(await takeKeys(db)).toEqual(['1', '2', '9']);
    });

    test('session_replication_role = replica', async () => {
      await db.tx(async (tx) => {
        await tx.query('SET LOCAL session_replication_role = replica');
        await tx.query(`INSERT INTO page (id, title) VALUES (4, 'x')`);
        await tx.query(`UPDATE page SET title = 'new' WHERE id = 1`);
        await tx.query('UPDATE page SET seen = 1');
        await tx.query('UPDATE page SET id = 20 WHERE id = 2');
        await tx.query('DELETE FROM page WHERE id = 3');
      });
      expect(await takeKeys(db)).toEqual(['1', '2', '20', '3', '4']);
    });
  });
});
