import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { sweep } from '../../src/maintenance/sweep.js';
import * as control from '../../src/reembed/control.js';
import { maintainOnce } from '../../src/worker/maintain.js';
import { start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { drained, heldNow, keepMigrating, type Running } from './migrating.js';
import { expectFresh } from './rows.js';
import { eachTry } from './support/tries.js';

const TIMEOUT_MS = 240_000;
const ROWS = { text: 'body' };

/** Leaves of 100 keys each: `note_3` has 300 to 399. */
const leaf = (n: number) => `note_${n}`;
const bounds = (n: number) => `FOR VALUES FROM (${n * 100}) TO (${n * 100 + 100})`;
const rowsOf = (n: number, what: string) =>
  `SELECT i, '${what} ' || i FROM generate_series(${n * 100}, ${n * 100 + 29}) i`;

describe('fault 26: partitions are added, attached, detached and dropped in mid-run [C O]', () => {
  let fixture: Fixture;
  let running: Running | undefined;
  beforeEach(async () => {
    fixture = await openFixture();
  });
  afterEach(async () => {
    await running?.stop();
    await fixture.close();
  });

  /** All four, one after the other: 1 is detached, 2 dropped, `to` added, `to + 1` attached with its rows. */
  async function comeAndGo(gone: { detached: number; dropped: number }, added: number): Promise<void> {
    const { db } = fixture;
    await db.exec(`CREATE TABLE ${leaf(added)} PARTITION OF note ${bounds(added)}`);
    await db.exec(`INSERT INTO note (id, body) ${rowsOf(added, 'through the parent')}`);
    // Before it is a partition nobody captures it.
    await db.exec(`CREATE TABLE ${leaf(added + 1)} (LIKE note INCLUDING ALL);
      INSERT INTO ${leaf(added + 1)} (id, body) ${rowsOf(added + 1, 'brought along')};
      ALTER TABLE note ATTACH PARTITION ${leaf(added + 1)} ${bounds(added + 1)}`);
    await db.exec(`ALTER TABLE note DETACH PARTITION ${leaf(gone.detached)}`);
    await db.exec(`DROP TABLE ${leaf(gone.dropped)}`);
    await db.exec(`UPDATE note SET body = 'edited in ' || tableoid::regclass WHERE id % 100 = 5`);
  }

  /** What the app does with a table that was a partition once, each kind of statement. */
  async function useDetached(n: number): Promise<void> {
    await fixture.db.exec(`INSERT INTO ${leaf(n)} (id, body) VALUES (${n * 100 + 90}, 'still here');
      UPDATE ${leaf(n)} SET body = body || '!'; UPDATE ${leaf(n)} SET body = 'one' WHERE id = ${n * 100 + 1};
      DELETE FROM ${leaf(n)} WHERE id = ${n * 100 + 2}; TRUNCATE ${leaf(n)};
      INSERT INTO ${leaf(n)} (id, body) ${rowsOf(n, 'again')}`);
  }

  /** One round of the maintainer: covers leaves, builds their indexes. */
  const maintain = () => maintainOnce({ db: fixture.db });

  const SHAPES: readonly { from: StoreKind; to: StoreKind }[] = [
    { from: 'column', to: 'column' },
    { from: 'table', to: 'column' },
    { from: 'column', to: 'table' },
    { from: 'table', to: 'table' },
  ];

  test(
    'rows of new partitions get both vectors, and what was detached is left alone',
    async (context) => {
      const { db } = fixture;
      await eachTry(context, SHAPES, async ({ from, to }) => {
        await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)`);
        for (let n = 1; n <= 6; n++) {
          await db.exec(`CREATE TABLE ${leaf(n)} PARTITION OF note ${bounds(n)};
            INSERT INTO ${leaf(n)} ${rowsOf(n, 'note')}`);
        }
        await fixture.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/a@8', store: from });
        await fixture.work();
        await maintain();
        // Detached before the migration begins: no maintainer has been here since.
        await db.exec(`ALTER TABLE note DETACH PARTITION ${leaf(6)}`);

        const { id, fromSpaceId, toSpaceId } = await start(fixture, 'note', { model: 'fake/b@12', store: to });
        const migrating = keepMigrating(fixture, id);
        running = migrating;
        migrating.works = false;
        await migrating.state('backfilling');
        await useDetached(6);
        await comeAndGo({ detached: 1, dropped: 2 }, 10);
        await maintain();
        migrating.works = true;
        const ready = await migrating.state('ready');
        // The leaves that are there now, and no others: 3, 4, 5, and the two that came.
        expect(ready.gates.find(({ name }) => name === 'coverage')?.note).toMatch(/all 150 rows/);
        await useDetached(1);
        await allFresh([fromSpaceId, toSpaceId]);

        await control.cutover(db, 'note');
        await migrating.state('soaking');
        await comeAndGo({ detached: 3, dropped: 4 }, 20);
        await useDetached(3);
        await maintain();
        // A statement that names the leaf is captured too, for both.
        await db.exec(`UPDATE ${leaf(20)} SET body = 'aimed at the leaf' WHERE id = 2007;
          UPDATE ${leaf(21)} SET body = 'aimed at the leaf' WHERE id IN (2107, 2108);
          INSERT INTO ${leaf(21)} (id, body) VALUES (2180, 'new in the leaf'); DELETE FROM ${leaf(21)} WHERE id = 2110`);
        await allFresh([fromSpaceId, toSpaceId]);
        await maintain();
        for (const space of [fromSpaceId, toSpaceId]) expect(await unindexed(space)).toEqual([]);

        // One that was away while the spaces changed comes back.
        await control.complete(db, 'note');
        await migrating.state('done');
        for (const n of [1, 3, 6]) await useDetached(n);
        // With columns it has too many or too few to come back.
        if (from === 'table' && to === 'table')
          await db.exec(`ALTER TABLE note ATTACH PARTITION ${leaf(3)} ${bounds(3)}`);
        await maintain();
        await allFresh([toSpaceId]);
        expect(await unindexed(toSpaceId)).toEqual([]);
        await migrating.stop();
        running = undefined;
        await db.exec(
          `DROP TABLE IF EXISTS note, ${[1, 3, 6].map(leaf).join(', ')} CASCADE; DELETE FROM freshvec.source`,
        );
      });
    },
    TIMEOUT_MS,
  );

  test('a partition that was away while the spaces changed is captured for all of them', async () => {
    const { db } = fixture;
    await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)`);
    for (let n = 1; n <= 2; n++) {
      await db.exec(
        `CREATE TABLE ${leaf(n)} PARTITION OF note ${bounds(n)}; INSERT INTO ${leaf(n)} ${rowsOf(n, 'note')}`,
      );
    }
    await fixture.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/a@8', store: 'table' });
    await fixture.work();
    await db.exec(`ALTER TABLE note DETACH PARTITION ${leaf(1)}`);
    const { id, fromSpaceId, toSpaceId } = await start(fixture, 'note', { model: 'fake/b@12', store: 'table' });
    running = keepMigrating(fixture, id);
    await running.state('ready');
    await db.exec(
      `UPDATE ${leaf(1)} SET body = 'edited while away'; ALTER TABLE note ATTACH PARTITION ${leaf(1)} ${bounds(1)}`,
    );
    await maintain();
    await db.exec(`UPDATE ${leaf(1)} SET body = 'aimed at the leaf' WHERE id = 107`);
    await allFresh([fromSpaceId, toSpaceId]);
  });

  describe('a leaf of more rows than all slots claim at a time, detached in mid-backfill', () => {
    let id: number;
    beforeEach(async () => {
      const { db } = fixture;
      await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
        CREATE TABLE ${leaf(1)} PARTITION OF note FOR VALUES FROM (-1000) TO (200);
        CREATE TABLE ${leaf(2)} PARTITION OF note ${bounds(2)};
        INSERT INTO note SELECT i, 'note ' || i FROM generate_series(-700, 120) i;
        INSERT INTO note ${rowsOf(2, 'note')}`);
      await fixture.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
      await fixture.work();
      const migration = await start(fixture, 'note', { model: 'fake/b@12' });
      ({ id } = migration);
      running = keepMigrating(fixture, id);
      running.works = false;
      await running.state('backfilling');
      await db.exec(`ALTER TABLE note DETACH PARTITION ${leaf(1)}`);
    });

    const rangesLeft = () =>
      fixture.db.query('SELECT FROM freshvec.range WHERE relation_oid = $1::text::regclass', [leaf(1)]);

    test.each(['kept as it is', 'stripped of the new column'])('%s keeps nobody waiting', async (how) => {
      const { db } = fixture;
      if (!running) throw new Error('nothing is running');
      if (how !== 'kept as it is') await db.exec(`ALTER TABLE ${leaf(1)} DROP COLUMN embedding_2`);
      await db.exec(`UPDATE note SET body = 'edited meanwhile' WHERE id = 207`);
      running.works = true;
      const ready = await running.state('ready');
      expect(ready.gates.find(({ name }) => name === 'coverage')?.note).toMatch(/all 30 rows/);
      expect(await rangesLeft()).toEqual([]);
      expect(running.errors).toEqual([]);
      await allFresh([ready.fromSpaceId, ready.toSpaceId]);
    });

    test('is visited no more once capture is off it', async () => {
      expect((await rangesLeft()).length).toBeGreaterThan(0);
      await maintain();
      expect(await rangesLeft()).toEqual([]);
    });

    test('that is attached again before capture was off it is looked at as a whole', async () => {
      const { db } = fixture;
      await running?.stop();
      running = undefined;
      await fixture.work();
      expect(await rangesLeft()).toEqual([]);
      // Nothing comes of the change: the row is not to be found through the source.
      await db.exec(`UPDATE ${leaf(1)} SET body = 'edited while away' WHERE id = 7`);
      await fixture.work();
      await db.exec(`ALTER TABLE note ATTACH PARTITION ${leaf(1)} FOR VALUES FROM (-1000) TO (200)`);
      await maintain();
      await fixture.work();
      const migration = await getMigration(db, id);
      for (const space of [migration?.fromSpaceId ?? 0, migration?.toSpaceId ?? 0])
        await expectFresh(fixture, await heldNow(fixture, 'note', space), ROWS);
      await maintain();
      expect(await rangesLeft()).toEqual([]);
    });
  });

  /** Invariant C of these spaces. Vectors in a table of their own outlive rows that left without a DELETE: a sweep's. */
  async function allFresh(spaces: readonly number[]): Promise<void> {
    const ids = spaces.map((id) => ({ id }));
    await drained(fixture, ids);
    await sweep(fixture.db, 'note');
    await drained(fixture, ids);
    for (const { id } of ids) await expectFresh(fixture, await heldNow(fixture, 'note', id), ROWS);
  }

  /** Leaves whose vectors no valid index reaches through the source, and indexes that are not valid. */
  async function unindexed(spaceId: number): Promise<string[]> {
    const { space } = await heldNow(fixture, 'note', spaceId);
    const [table, column] =
      space.store === 'column' ? ['note', space.column] : [`freshvec.vector_${spaceId}`, 'embedding'];
    const rows = await fixture.db.query<{ name: string }>(
      `SELECT c.oid::regclass::text AS name FROM pg_class c
       WHERE (c.oid = $1::text::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))
         AND NOT EXISTS (
           SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
           WHERE i.indrelid = c.oid AND a.attname = $2 AND i.indisvalid AND (am.amname = 'hnsw' OR ic.relkind = 'I'))`,
      [table, column],
    );
    return rows.map(({ name }) => name);
  }
});
