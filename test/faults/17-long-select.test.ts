import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { openTransaction } from './index-builds.js';
import { drained, heldNow, keepMigrating } from './migrating.js';
import { expectFresh } from './rows.js';
import { eachTry } from './support/tries.js';

/**
 * Who holds the table when the migration expands. ADD COLUMN wants it for itself, a reader is in its way; triggers for a
 * table of vectors only want no writer.
 */
const HOLDERS: readonly { store: StoreKind; holds: string; sql: string }[] = [
  { store: 'column', holds: 'a reader', sql: 'SELECT count(*) FROM note_N' },
  { store: 'column', holds: 'a writer', sql: 'UPDATE note_N SET body = body WHERE id = 1' },
  { store: 'table', holds: 'a writer', sql: 'UPDATE note_N SET body = body WHERE id = 1' },
];

const TIMEOUT_MS = 180_000;
const STATEMENTS = 60;

describe('fault 17: a long transaction holds the table before the ALTER TABLE of expand [Q]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  async function source(table: string, store: StoreKind) {
    await fixture.db.exec(`CREATE TABLE ${table} (id int PRIMARY KEY, body text);
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 100) i`);
    await fixture.add({ table, content: { columns: ['body'] }, model: 'fake/a@8', store });
    await fixture.work();
  }

  test(
    'the app never waits, the migration names who holds the table, and goes on when that ends',
    async (context) => {
      const { db } = fixture;
      await eachTry(context, HOLDERS, async ({ store, holds, sql }, attempt) => {
        const table = `note_${attempt}`;
        await source(table, store);
        const holder = await openTransaction(fixture.url, 'BEGIN', sql.replace('note_N', table));
        // Q by the server's own count: a statement of the app that waits for a lock any longer fails.
        const app = await openTransaction(fixture.url, `SET lock_timeout = '100ms'`);
        let serial = 1_000;
        const use = async () => {
          serial += 1;
          await app.query(`INSERT INTO ${table} (id, body) VALUES (${serial}, 'new ${serial}')`);
          await app.query(`UPDATE ${table} SET body = 'edited ${serial}' WHERE id = ${2 + (serial % 90)}`);
          await app.query(`DELETE FROM ${table} WHERE id = ${serial - 3}`);
          await app.query(`SELECT count(*) FROM ${table}`);
        };
        const migration = await start(fixture, table, { model: 'fake/b@12', store });
        const running = keepMigrating(fixture, migration.id);
        try {
          const named = async () =>
            (await getMigration(db, migration.id))?.reason?.includes(`pid ${holder.pid} (holder`);
          for (let done = 0, seen = false; done < STATEMENTS || !seen; done++) {
            await use();
            if (done > 2_000)
              throw new Error(`${holds} is not named: ${(await getMigration(db, migration.id))?.reason}`);
            seen ||= (await named()) ?? false;
          }
          const held = await getMigration(db, migration.id);
          expect(held?.state).toBe('expanding');
          // Nothing is half there: a try that does not get through leaves nothing.
          expect(await db.query('SELECT id FROM freshvec.space WHERE id = $1', [migration.toSpaceId])).toEqual([]);
          await holder.query('COMMIT');
          await running.until('a state after expanding', ({ state }) => state !== 'expanding');
          await running.state('ready');
          expect((await getMigration(db, migration.id))?.reason).toBeUndefined();
          await use();
          await drained(fixture, [{ id: migration.fromSpaceId }, { id: migration.toSpaceId }]);
          for (const id of [migration.fromSpaceId, migration.toSpaceId]) {
            await expectFresh(fixture, await heldNow(fixture, table, id), { text: 'body' });
          }
        } finally {
          await holder.end();
          await app.end();
          await running.stop();
        }
      });
    },
    TIMEOUT_MS,
  );

  test('a reader is not in the way of a table of vectors', async () => {
    const { db } = fixture;
    await source('read', 'table');
    const holder = await openTransaction(fixture.url, 'BEGIN', 'SELECT count(*) FROM read');
    const migration = await start(fixture, 'read', { model: 'fake/b@12', store: 'table' });
    const running = keepMigrating(fixture, migration.id);
    try {
      running.works = false;
      await running.state('backfilling');
      expect(await db.query('SELECT state FROM freshvec.space WHERE id = $1', [migration.toSpaceId])).toEqual([
        { state: 'building' },
      ]);
    } finally {
      await holder.end();
      await running.stop();
    }
  });
});
