/**
 * PostgreSQL cannot change what a prepared statement returns: once a column was added or dropped, every EXECUTE of a
 * prepared `SELECT *` fails with "cached plan must not change result type" (0A000), outside a transaction and in one,
 * until that connection prepares it again. No lock, no trigger and no order of statements avoids it, and a driver that
 * keeps the name (node-postgres) fails until it is told to prepare anew or connects anew. What can be promised: nothing
 * at all with vectors in a table of their own; a word before, and this error and no other, with columns.
 */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import * as control from '../../src/reembed/control.js';
import { planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { keepMigrating } from './migrating.js';
import { eachTry } from './support/tries.js';

const TIMEOUT_MS = 180_000;
const NOTE = /prepared statements with SELECT \*.*cached plan must not change result type.*prepares it again/i;

/** What an app holds prepared; only the first meets a new column. */
const STATEMENTS = {
  star: 'SELECT * FROM T WHERE id = $1',
  named: 'SELECT id, body FROM T WHERE id = $1',
  edit: `UPDATE T SET body = 'edited' WHERE id = $1`,
  returned: `UPDATE T SET body = body || '!' WHERE id = $1 RETURNING *`,
} as const;
type Name = keyof typeof STATEMENTS;
const NAMES = Object.keys(STATEMENTS) as Name[];
const MEETS: ReadonlySet<Name> = new Set(['star', 'returned']);

describe('fault 41: the app holds a prepared SELECT * while a migration expands and contracts [Q]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  const SHAPES: readonly { from: StoreKind; to: StoreKind }[] = [
    { from: 'table', to: 'table' },
    { from: 'column', to: 'column' },
    { from: 'table', to: 'column' },
    { from: 'column', to: 'table' },
  ];

  test(
    'nothing fails with a table of vectors; with columns just what the plan said',
    async (context) => {
      const { db, models } = fixture;
      await eachTry(context, SHAPES, async ({ from, to }) => {
        const table = `note_${from}_${to}`;
        await db.exec(`CREATE TABLE ${table} (id int PRIMARY KEY, body text);
        INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 50) i`);
        await fixture.add({ table, content: { columns: ['body'] }, model: 'fake/a@8', store: from });
        await fixture.work();
        const plan = await planReembed(db, table, { model: 'fake/b@12', store: to }, await models.get('fake/b@12'));
        const note = plan.notes.find((one) => NOTE.test(one)) ?? '';
        expect([note.includes('at the start'), note.includes('at the end')]).toEqual([
          to === 'column',
          from === 'column',
        ]);

        const app = await preparedApp(fixture.url, table);
        const { id } = await startReembed(db, plan);
        const running = keepMigrating(fixture, id);
        try {
          await running.state('ready');
          await app.expectAll(to === 'column' ? MEETS : new Set());
          await control.cutover(db, table);
          await control.complete(db, table);
          await running.state('done');
          await app.expectAll(from === 'column' ? MEETS : new Set());
        } finally {
          await running.stop();
          await app.end();
        }
      });
    },
    TIMEOUT_MS,
  );
});

/** Statements prepared on one connection, as a driver keeps them. */
async function preparedApp(url: string, table: string) {
  const client = new pg.Client({ connectionString: url, application_name: 'app' });
  client.on('error', () => {});
  await client.connect();
  const prepare = (name: Name) => client.query(`PREPARE ${name} (int) AS ${STATEMENTS[name].replace(/\bT\b/, table)}`);
  const codeOf = (name: Name): Promise<string | undefined> =>
    client.query(`EXECUTE ${name} (7)`).then(
      () => undefined,
      (error: pg.DatabaseError) => `${error.code} ${error.message}`,
    );
  for (const name of NAMES) {
    await prepare(name);
    expect(await codeOf(name)).toBeUndefined();
  }
  return {
    /** Those of `failing` fail like that until they are prepared again, and never another one. */
    async expectAll(failing: ReadonlySet<Name>) {
      for (const name of NAMES) {
        const wanted = failing.has(name) ? '0A000 cached plan must not change result type' : undefined;
        expect([name, await codeOf(name)]).toEqual([name, wanted]);
        expect([name, await codeOf(name)]).toEqual([name, wanted]);
        if (!failing.has(name)) continue;
        await client.query(`DEALLOCATE ${name}`);
        await prepare(name);
        expect(await codeOf(name)).toBeUndefined();
      }
    },
    end: () => client.end(),
  };
}
