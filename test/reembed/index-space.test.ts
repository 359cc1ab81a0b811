import { afterEach, beforeEach, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import * as control from '../../src/reembed/control.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { builder, openTransaction, vectorIndexes } from '../faults/index-builds.js';
import { keepMigrating, type Running } from '../faults/migrating.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { start, stepUntil } from './support.js';

/** A build waits for it at its end, in the validation; dropping an index does not. */
const SNAPSHOT = ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM pg_class'];

let fixture: Fixture;
let running: Running;
let id: number;
let holder: Awaited<ReturnType<typeof openTransaction>>;

/** A migration that is about to build its index, and a snapshot that holds every build up. */
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 60) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
  ({ id } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' }));
  await stepUntil(fixture, id, 'indexing');
  holder = await openTransaction(fixture.url, ...SNAPSHOT);
  running = keepMigrating(fixture, id);
});
afterEach(async () => {
  await holder.end();
  await running.stop();
  await fixture.close();
});

const now = async () => {
  const migration = await getMigration(fixture.db, id);
  if (!migration) throw new Error('no migration');
  return migration;
};

/** The backend that builds, once it is another one than those before. */
function anotherBuild(before: readonly number[] = []): Promise<number> {
  return eventually(
    async () => {
      const pid = (await builder(fixture.db))?.pid;
      return pid !== undefined && !before.includes(pid) && pid;
    },
    { timeoutMs: 60_000, what: `another build than ${before.join()}` },
  );
}

test.each(['pg_terminate_backend', 'pg_cancel_backend'])('a build that %s ended is tried three times', async (end) => {
  const seen: number[] = [];
  for (let tries = 1; tries <= 3; tries++) {
    seen.push(await anotherBuild(seen));
    // It is on record before it is known how the build ends, which the server may not survive.
    expect((await now()).tries).toBe(tries);
    await fixture.db.query(`SELECT ${end}($1::int)`, [seen.at(-1)]);
  }
  const parked = await running.state('parked');
  expect(parked).toMatchObject({ parkedState: 'indexing', tries: 0 });
  // No edit pays for what is left of the last one.
  expect(await vectorIndexes(fixture.db)).toEqual([]);
  expect(parked.reason).toMatch(/the index cannot be built: .*(terminating connection|canceling statement)/);
  const events = (await migrationStatus(fixture.db, 'doc')).events.map(({ what }) => what);
  expect(events.filter((what) => what.includes('tried again'))).toHaveLength(2);

  await holder.query('COMMIT');
  await control.resumeMigration(fixture.db, 'doc');
  await running.state('ready');
});

test('three builds whose end nobody saw are enough', async () => {
  await anotherBuild();
  await running.stop();
  await fixture.db.query(`UPDATE freshvec.migration SET tries = 3, reason = 'building index: 40 %'`);
  running = keepMigrating(fixture, id);
  await holder.query('COMMIT');
  expect((await running.state('parked')).reason).toBe(
    'the index cannot be built: 3 builds came to no end; the last: building index: 40 %',
  );
});

test('a build that the controller itself ends is no try', async () => {
  await anotherBuild();
  expect((await now()).tries).toBe(1);
  await running.stop();
  expect(await now()).toMatchObject({ state: 'indexing', tries: 0 });
  running = keepMigrating(fixture, id);
  await holder.query('COMMIT');
  await running.state('ready');
  expect(await vectorIndexes(fixture.db)).toMatchObject([{ valid: true }]);
});

test('`resume` and `accept` leave a build alone; `pause` ends it and takes its half away', async () => {
  const { db } = fixture;
  await db.query(`UPDATE freshvec.migration SET gates = '[{"name": "recall", "passed": false}]'`);
  const pid = await anotherBuild();
  const { token } = await now();
  await control.resumeMigration(db, 'doc');
  await control.resumeMigration(db, 'doc', { spendCap: 25 });
  await control.acceptGates(db, 'doc', ['recall']);
  expect(await now()).toMatchObject({ token, tries: 1, accepted: ['recall'] });

  await control.pauseMigration(db, 'doc');
  await eventually(async () => (await builder(db)) === undefined, { what: 'the end of the build' });
  await eventually(async () => (await vectorIndexes(db)).length === 0, { what: 'no half of an index' });
  await control.pauseMigration(db, 'doc');
  expect(await now()).toMatchObject({ state: 'indexing', paused: true, token: undefined, tries: 0 });
  await control.resumeMigration(db, 'doc');
  await anotherBuild([pid]);
  await holder.query('COMMIT');
  await running.state('ready');
});

/** Columns that the planner knows something of, by table. */
const analyzed = async () =>
  (
    await fixture.db.query<{ name: string }>(
      `SELECT tablename || '.' || attname AS name FROM pg_stats
       WHERE tablename = 'doc' AND attname ~ '^embedding_2' OR schemaname = 'freshvec' AND tablename ~ '^vector_' ORDER BY 1`,
    )
  ).map(({ name }) => name);

test.each([
  ['column', ['doc.embedding_2', 'doc.embedding_2_hash', 'doc.embedding_2_model']],
  ['table', expect.arrayContaining(['vector_3.embedding', 'vector_3.hash', 'vector_3.model'])],
] as const)(
  'the planner knows what the space was filled with before its plans are looked at: %s',
  async (store, known) => {
    await holder.end();
    if (store === 'table') {
      await control.abort(fixture.db, 'doc');
      await running.state('aborted');
      await running.stop();
      ({ id } = await start(fixture, 'doc', { model: 'fake/b@12', store, index: 'hnsw' }));
      running = keepMigrating(fixture, id);
    }
    expect(await analyzed()).toEqual([]);
    await running.state('ready');
    expect(await analyzed()).toEqual(known);
  },
);
