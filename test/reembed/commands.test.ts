import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readSpaceSpend, setSpaceCap } from '../../src/budget/space-cap.js';
import type { Gate } from '../../src/catalog/migration.js';
import { getMigration } from '../../src/catalog/migration.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import { controlMigration } from '../../src/reembed/controller.js';
import type { StartOptions } from '../../src/reembed/definition.js';
import { planReembed } from '../../src/reembed/plan.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { takeOver } from '../../src/reembed/transition.js';
import { alterSource, removeSource } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { deps, start, stepUntil, workUntil } from './support.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, title text);
    INSERT INTO doc SELECT i, 'text number ' || i, 'title ' || i FROM generate_series(1, 60) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
});
afterEach(() => fixture.close());

const begin = () => start(fixture, 'doc', { model: 'fake/b@12' });
const stateOf = async (id: number) => (await getMigration(fixture.db, id))?.state;
const step = async (id: number) => {
  const migration = await takeOver(fixture.db, id, '00000000-0000-4000-8000-000000000001', true);
  if (!migration) throw new Error('nothing to do');
  return advance(deps(fixture.db), migration, new AbortController().signal);
};

const renaming: typeof control.cutover = (db, source) => control.cutover(db, source, { rename: true });

describe('parked while both spaces are kept', () => {
  test.each([
    {
      lost: 'the new vectors',
      switched: control.cutover,
      column: 'embedding_2',
      way: control.rollback,
      to: 'rolled_back',
    },
    {
      lost: 'the new vectors, under the name of the old ones,',
      switched: renaming,
      column: 'embedding',
      way: control.rollback,
      to: 'rolled_back',
    },
    {
      lost: 'the old vectors',
      switched: control.cutover,
      column: 'embedding',
      way: control.complete,
      to: 'contracting',
    },
  ] as const)('$lost are gone: a person may choose the others', async ({ switched, column, way, to }) => {
    const { db } = fixture;
    const { id } = await begin();
    await workUntil(fixture, id, ['ready']);
    await switched(db, 'doc');
    await db.exec(`ALTER TABLE doc DROP COLUMN ${column}`);
    await step(id);
    const parked = await getMigration(db, id);
    expect(parked).toMatchObject({ state: 'parked', parkedState: 'soaking' });
    expect(parked?.reason).toContain(to === 'contracting' ? '`complete`' : '`rollback`');
    // Not on to what is gone.
    if (to === 'contracting')
      await expect(control.rollback(db, 'doc')).rejects.toThrow('the old vectors are not there');
    await way(db, 'doc');
    expect(await stateOf(id)).toBe(to);
    if (to === 'rolled_back') await control.abort(db, 'doc');
    await workUntil(fixture, id, [to === 'contracting' ? 'done' : 'aborted']);
    const kept = to === 'contracting' ? 'embedding_2' : 'embedding';
    expect(await db.query(`SELECT count(${kept}) AS n FROM doc`)).toEqual([{ n: 60 }]);
  });

  test('a move that is resumed was switched when it was, not just now', async () => {
    const { db } = fixture;
    const { id } = await begin();
    await workUntil(fixture, id, ['ready']);
    await control.cutover(db, 'doc');
    const switchedAt = (await getMigration(db, id))?.switchedAt;
    await db.exec('ALTER TABLE doc RENAME COLUMN embedding_2 TO elsewhere');
    await step(id);
    expect(await stateOf(id)).toBe('parked');
    await db.exec('ALTER TABLE doc RENAME COLUMN elsewhere TO embedding_2');
    await control.resumeMigration(db, 'doc');
    expect(await getMigration(db, id)).toMatchObject({ state: 'soaking', switchedAt });
  });
});

describe('cutover', () => {
  test('waits for rows that came while nobody embedded them, unless a person accepts that', async () => {
    const { db } = fixture;
    const { id, toSpaceId } = await begin();
    const gate: Gate = { name: 'pending', passed: true, value: 0, bound: 5 };
    await workUntil(fixture, id, ['ready'], { runGates: async () => [gate] });
    await db.query(`INSERT INTO freshvec.change (space_id, key, at) VALUES ($1, '1', now() - interval '2 h')`, [
      toSpaceId,
    ]);
    await expect(control.cutover(db, 'doc')).rejects.toThrow(/would miss rows .*reembed accept doc pending/);
    await control.acceptGates(db, 'doc', ['pending']);
    await control.cutover(db, 'doc');
    expect(await stateOf(id)).toBe('soaking');
  });

  test('ends the cap on what the move may cost, which a person may raise before', async () => {
    const { db } = fixture;
    const { id, toSpaceId } = await begin();
    await workUntil(fixture, id, ['ready']);
    await setSpaceCap(db, toSpaceId, 5);
    await control.resumeMigration(db, 'doc', { spendCap: 25 });
    expect(await readSpaceSpend(db, toSpaceId)).toMatchObject({ capUsd: 25 });
    await control.cutover(db, 'doc');
    expect(await readSpaceSpend(db, toSpaceId)).toMatchObject({ capUsd: undefined });
    await expect(control.resumeMigration(db, 'doc', { spendCap: 30 })).rejects.toThrow('no cap but the day');
  });

  test('does not mind an index of somebody else that is not valid', async () => {
    const { db } = fixture;
    const { id } = await begin();
    await workUntil(fixture, id, ['ready']);
    await db.exec(`CREATE INDEX other ON doc USING hnsw (embedding_2 vector_l2_ops);
      UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'other'::regclass`);
    expect(await step(id)).toBeGreaterThan(0);
    expect(await stateOf(id)).toBe('ready');
    await control.cutover(db, 'doc');
  });
});

test('gates that do not hold are measured less and less often, and at once after a command', async () => {
  const { db } = fixture;
  const { id } = await begin();
  let measured = 0;
  const shut: Gate = { name: 'labelled', passed: false, value: 0.1, bound: 0.9 };
  const over = {
    runGates: async () => {
      measured += 1;
      return [shut];
    },
  };
  const look = () => controlMigration(deps(db, over), id, new AbortController().signal);
  const eachLook = async (n: number) => {
    for (let i = 0; i < n; i++) await look();
  };
  await workUntil(fixture, id, ['verifying'], over);
  // The look that was cut off may have measured without a record.
  await look();
  const once = measured;
  await eachLook(3);
  expect(measured).toBe(once);
  const restMs = async () => {
    await db.query(`UPDATE freshvec.migration SET gated_at = gated_at - interval '1 day'`);
    await look();
    return look();
  };
  const [first, second] = [await restMs(), await restMs()];
  expect(measured).toBe(once + 2);
  expect(second).toBeGreaterThan(1.5 * (first ?? 0));
  await control.acceptGates(db, 'doc', ['labelled']);
  await look();
  expect(measured).toBe(once + 3);
  expect(await stateOf(id)).toBe('ready');
});

test('a pause of a person’s leaves the bound of the backfill as it is', async () => {
  const { db } = fixture;
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' }, { until: 0.5 });
  await control.pauseMigration(db, 'doc');
  await control.resumeMigration(db, 'doc');
  expect((await getMigration(db, id))?.until).toBe(0.5);
});

test('a column that somebody made since the plan is left alone', async () => {
  const { db } = fixture;
  const { id } = await begin();
  await db.exec(`ALTER TABLE doc ADD COLUMN embedding_2 text DEFAULT 'theirs'`);
  await step(id);
  await step(id);
  const parked = await getMigration(db, id);
  expect(parked).toMatchObject({ state: 'parked', parkedState: 'expanding' });
  expect(parked?.reason).toContain('embedding_2');
  await control.abort(db, 'doc');
  await workUntil(fixture, id, ['aborted']);
  expect(await db.query(`SELECT count(*)::int AS n FROM doc WHERE embedding_2 = 'theirs'`)).toEqual([{ n: 60 }]);
});

test('the rate is that of the time at work: rests do not count', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc SELECT i, repeat('text ', 100) || i, '' FROM generate_series(61, 600) i`);
  await fixture.work();
  const { id } = await begin();
  await stepUntil(fixture, id, 'backfilling');
  const worked = async () => (await getMigration(db, id))?.worked ?? Number.NaN;
  await step(id);
  expect(await worked()).toBe(0);
  await db.exec('UPDATE freshvec.range SET from_page = (from_page + to_page) / 2 WHERE to_page < 4294967295');
  await step(id);
  const two = await worked();
  expect(two).toBeGreaterThan(0);
  await db.exec(`UPDATE freshvec.migration SET throttled_at = throttled_at - interval '1 h'`);
  await step(id);
  expect(await worked()).toBe(two);

  await db.exec('UPDATE freshvec.migration SET worked = 10');
  const { done, rows, rate, etaSeconds } = await migrationStatus(db, 'doc');
  expect(done).toBeGreaterThan(0);
  expect(rate).toBeCloseTo(done / 10, 1);
  expect(etaSeconds).toBe(Math.round((10 * (rows - done)) / done));
});

test('columns that a source which was removed has kept are refused in the plan, with what to do', async () => {
  const { db } = fixture;
  await fixture.add({
    table: 'doc',
    name: 'b',
    content: { columns: ['body'] },
    model: 'fake/b@12',
    column: 'embedding_b',
  });
  await removeSource(db, 'b', { dropVectors: false });
  const plan = async (definition: object) =>
    (await planReembed(db, 'doc', { model: 'fake/b@12', ...definition }, await fixture.models.get('fake/b@12')))
      .blockers;
  expect(await plan({ column: 'embedding_b' })).toEqual([
    expect.stringMatching(/has the columns embedding_b, embedding_b_model, embedding_b_hash already.*`--column NAME`/),
  ]);
  const [why, ...more] = await plan({ adopt: 'embedding_b' });
  expect(more).toEqual([]);
  const drop = 'ALTER TABLE public.doc DROP COLUMN embedding_b_model, DROP COLUMN embedding_b_hash';
  expect(why?.replaceAll('"', '')).toContain(drop);
  await db.exec(drop);
  expect(await plan({ adopt: 'embedding_b' })).toEqual([]);
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12', adopt: 'embedding_b' });
  await workUntil(fixture, id, ['ready']);
});

test('what a step fails with is said in the status, without content', async () => {
  const { db } = fixture;
  const { id } = await begin();
  await workUntil(fixture, id, ['verifying'], {
    runGates: async () => [{ name: 'pending', passed: false, value: 9, bound: 5 }],
  });
  const failing = (error: Error) => deps(db, { runGates: () => Promise.reject(error) });
  const look = (error: Error) => controlMigration(failing(error), id, new AbortController().signal);
  await expect(look(new Error('No space left on device'))).rejects.toThrow();
  expect((await getMigration(db, id))?.reason).toContain('No space left on device');
  await control.resumeMigration(db, 'doc');
  await expect(look(Object.assign(new Error('invalid input: "secret"'), { code: '22P02' }))).rejects.toThrow();
  expect((await getMigration(db, id))?.reason).toBe('it failed and is tried again: SQLSTATE 22P02');
});

test('an alter and a migration that begins wait for the table together: capture knows of both', async () => {
  const { db, url } = fixture;
  const { id, fromSpaceId, toSpaceId } = await begin();
  const app = new pg.Client({ connectionString: url });
  await app.connect();
  try {
    for (const column of ['title', 'body']) {
      await app.query('BEGIN; UPDATE doc SET id = id WHERE id = 1');
      const altering = alterSource(db, 'doc', { content: { columns: [column] } });
      const moving =
        column === 'title' ? workUntil(fixture, id, ['backfilling', 'indexing', 'verifying', 'ready']) : undefined;
      await new Promise((resolve) => setTimeout(resolve, 300));
      await app.query('COMMIT');
      await Promise.all([altering, moving]);
      await fixture.work();
      await db.query(`UPDATE doc SET ${column} = 'edited' WHERE id = 3`);
      const changes = await db.query<{ space: number }>(
        'SELECT DISTINCT space_id AS space FROM freshvec.change_key WHERE key = $1 ORDER BY 1',
        ['3'],
      );
      expect(changes.map(({ space }) => space)).toEqual([fromSpaceId, toSpaceId]);
    }
  } finally {
    await app.end();
  }
});

test('a second start with other options is refused, since it would change nothing', async () => {
  const options = { until: 0.5, retainSeconds: 3600, spendCap: 1.5, queries: [{ query: 'one', relevant: ['1'] }] };
  const again = (over: StartOptions) => start(fixture, 'doc', { model: 'fake/b@12' }, over);
  const { id } = await again(options);
  for (const same of [options, {}, { queries: options.queries }]) expect((await again(same)).id).toBe(id);
  await expect(again({ ...options, auto: true, retainSeconds: 60 })).rejects.toThrow(/another --auto and --retain/);
  await expect(again({ until: 0.1 })).rejects.toThrow(/another --until/);
  await expect(again({ spendCap: 5 })).rejects.toThrow(/another --spend-cap/);
  await expect(again({ queries: [] })).rejects.toThrow(/another --queries/);
});

test('`complete` keeps the old vectors while the new ones are not there', async () => {
  const { db } = fixture;
  const { id } = await begin();
  await workUntil(fixture, id, ['ready']);
  await control.cutover(db, 'doc');
  await db.exec('ALTER TABLE doc RENAME COLUMN embedding_2 TO elsewhere');
  await expect(control.complete(db, 'doc')).rejects.toThrow('the new vectors are not there any more');
  await db.exec('ALTER TABLE doc RENAME COLUMN elsewhere TO embedding_2');
  await control.complete(db, 'doc');
  await workUntil(fixture, id, ['done']);
});
