import { afterEach, beforeEach, expect, test } from 'vitest';
import { deps, start, stepUntil, workUntil } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { freshvec } from './support.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, repeat('text ', 100) || i FROM generate_series(1, 600) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
});
afterEach(() => fixture.close());

const watch = (options: { stop?: AbortSignal }) =>
  freshvec(['reembed', 'status', 'doc', '--watch'], { env: { DATABASE_URL: fixture.url }, ...options });

test('`status --watch` shows rate, estimate and share, and what slows it', async () => {
  const { db } = fixture;
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await stepUntil(fixture, id, 'backfilling');
  const signal = { name: 'replica_lag', state: 'pressed', value: 4.2, bound: 1, unit: 's', note: 'replica "a"' };
  await db.query(`UPDATE freshvec.migration SET share = 0.33, worked = 10, throttle = $1::jsonb`, [
    JSON.stringify([signal]),
  ]);
  await db.exec('UPDATE freshvec.range SET from_page = (from_page + to_page) / 2 WHERE to_page < 4294967295');
  // One look: a stop that is there already.
  const { stderr } = await watch({ stop: AbortSignal.abort() });
  expect(stderr).toContain('slowed: replica_lag 4.2 s (at most 1 s): replica "a"');
  expect(stderr).toMatch(
    / of about 600 rows done, [\d.]+ a second, \d+ s left, at work 33 % of the time, slowed by replica_lag/,
  );
});

test('`status --watch` of a move with --auto goes on beyond ready', async () => {
  const { db } = fixture;
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' }, { auto: true });
  await stepUntil(fixture, id, 'ready');
  let over = false;
  const watching = watch({}).finally(() => {
    over = true;
  });
  const looked = async () =>
    (await db.query(`SELECT FROM pg_stat_activity WHERE application_name LIKE 'freshvec%'`)).length > 0;
  await eventually(looked, { what: 'somebody who watches' });
  expect(over).toBe(false);
  await workUntil(fixture, id, ['soaking'], deps(db));
  expect((await watching).stdout).toMatch(/^doc: soaking/);
});
