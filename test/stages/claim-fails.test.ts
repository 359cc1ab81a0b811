import { afterEach, beforeEach, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import type { Database, Row } from '../../src/db/database.js';
import { Drainer } from '../../src/worker/drainer.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(
    `CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'one'), (2, 'two')`,
  );
});
afterEach(() => fixture.close());

/** The database, whose answer to statements like this one is an error: before they run, or when they are done. */
function failing(db: Database, statement: RegExp, when: 'before' | 'after'): Database {
  return instead(db, {
    async query<R extends Row>(sql: string, params?: readonly unknown[]): Promise<R[]> {
      if (!statement.test(sql)) return db.query<R>(sql, params);
      if (when === 'after') await db.query(sql, params);
      throw new Error('the connection was lost');
    },
  });
}

test.each([
  { name: 'whose second statement fails', statement: /UPDATE freshvec\.lease l SET token/, when: 'before' },
  { name: 'whose answer is lost', statement: /DELETE FROM freshvec\.change /, when: 'after' },
] as const)('a claim $name keeps no keys', async ({ statement, when }) => {
  const { db, models } = fixture;
  const { space } = await fixture.add({
    table: 'notes',
    content: { columns: ['body'] },
    model: 'fake/a@4',
    index: 'none',
  });
  await fixture.work();
  await db.query(`UPDATE notes SET body = 'other' WHERE id = 1`);
  const gates = createGates(db, {}, () => {});
  const drainer = new Drainer({ db: failing(db, statement, when), models, gates, worker: 'test', batchKeys: 10 });
  const { signal } = new AbortController();
  await expect(drainer.drain(space.id, { stop: signal, cut: signal })).rejects.toThrow('the connection was lost');
  expect(await db.query('SELECT key FROM freshvec.lease')).toEqual([]);
  expect(await db.query('SELECT key FROM freshvec.change_key')).toEqual([{ key: '1' }]);
  await drainer.close();
  await gates.close();
});
