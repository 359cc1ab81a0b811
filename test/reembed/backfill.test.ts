import { afterEach, beforeEach, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import { pauseWork, resumeWork } from '../../src/catalog/pause.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { recede, takeOver } from '../../src/reembed/transition.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { deps, start, stepUntil, workUntil } from './support.js';

const ROWS = 600;

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, repeat('text ', 100) || i FROM generate_series(1, ${ROWS}) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
});
afterEach(() => fixture.close());

/** One look of a controller at the migration. */
async function look(id: number): Promise<void> {
  const migration = await takeOver(fixture.db, id, '00000000-0000-4000-8000-000000000001', true);
  if (migration) await advance(deps(fixture.db), migration, new AbortController().signal);
}

test.each(['spend', 'provider', 'person'] as const)(
  'workers that rest (%s) are told of, and their rest is not counted as work',
  async (kind) => {
    const { db } = fixture;
    const { id, sourceId, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await stepUntil(fixture, id, 'backfilling');
    const target = { sourceId, spaceId: kind === 'person' ? undefined : toSpaceId };
    await pauseWork(db, target, { kind, reason: 'the cap of 5 dollars is reached' });
    await db.query('UPDATE freshvec.migration SET worked = 10, throttled_at = clock_timestamp() WHERE id = $1', [id]);
    await look(id);
    await look(id);
    expect(await migrationStatus(db, 'doc')).toMatchObject({
      state: 'backfilling',
      paused: false,
      reason: expect.stringContaining('the cap of 5 dollars is reached'),
      resting: { kind, until: null },
    });
    expect((await getMigration(db, id))?.worked).toBe(10);
    await resumeWork(db, target);
    await look(id);
    expect(await migrationStatus(db, 'doc')).toMatchObject({ reason: null, resting: null });
  },
);

test('`until` holds for tables of few pages, too', async () => {
  const { db } = fixture;
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' }, { until: 0.1 });
  await stepUntil(fixture, id, 'backfilling');
  const visit = () =>
    db.query(`DELETE FROM freshvec.range WHERE id = (SELECT min(id) FROM freshvec.range WHERE space_id = $1)`, [
      toSpaceId,
    ]);
  let visits = 0;
  for (let now = await getMigration(db, id); now?.paused === false; now = await getMigration(db, id)) {
    await visit();
    visits += 1;
    await look(id);
  }
  expect(visits).toBeGreaterThan(1);
  const { done, reason } = await migrationStatus(db, 'doc');
  expect(done).toBeGreaterThanOrEqual(ROWS * 0.1);
  expect(done).toBeLessThan(ROWS * 0.15);
  expect(reason).toMatch(/^1\d % of the rows are there, (as asked|10 % were asked for)/);
});

test('nothing is done of a move that was aborted', async () => {
  const { db } = fixture;
  await start(fixture, 'doc', { model: 'fake/b@12' });
  await control.abort(db, 'doc');
  expect(await migrationStatus(db, 'doc')).toMatchObject({ state: 'aborted', rows: ROWS, done: 0 });
});

test('what was there before a backfill that goes back for few rows does not count as its speed', async () => {
  const { db } = fixture;
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
  await db.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     SELECT $1, 'load', oid, relfilenode, 0, 4 FROM pg_class WHERE oid = 'doc'::regclass`,
    [toSpaceId],
  );
  const migration = await getMigration(db, id);
  if (!migration) throw new Error('the migration is gone');
  await db.tx((tx) => recede(tx, migration, 'pages came'));
  await look(id);
  await db.query('UPDATE freshvec.migration SET worked = 2 WHERE id = $1', [id]);
  const now = await migrationStatus(db, 'doc');
  expect(now.done).toBeGreaterThan(ROWS / 2);
  expect(now).toMatchObject({ state: 'backfilling', rate: null, etaSeconds: null });
});
