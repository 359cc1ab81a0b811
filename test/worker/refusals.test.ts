import { afterEach, expect, test, vi } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { Drainer } from '../../src/worker/drainer.js';
import { newSpaceRun, restAfterFailure } from '../../src/worker/space-run.js';
import { type Fixture, openFixture } from '../support/fixture.js';

const REFUSED = Object.assign(new Error('permission denied for table doc'), { code: '42501' });

let fixture: Fixture | undefined;
afterEach(async () => {
  vi.useRealTimers();
  await fixture?.close();
  fixture = undefined;
});

test('a space rests twice as long with each refusal in a row, five minutes at most', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const run = newSpaceRun(3);
  const rests = Array.from({ length: 8 }, () => {
    restAfterFailure(run, REFUSED);
    // Slots that fail side by side are one failure.
    restAfterFailure(run, REFUSED);
    const restMs = run.restUntil - performance.now();
    vi.advanceTimersByTime(restMs);
    return restMs / 1000;
  });
  expect(rests).toEqual([5, 10, 20, 40, 80, 160, 300, 300]);
  // A server that is away has refused nothing, and is tried at once.
  restAfterFailure(run, Object.assign(new Error('gone'), { code: '57P01' }));
  expect(run.restUntil).toBeLessThanOrEqual(performance.now());
});

test('what a table refuses is embedded anew less and less often, until a write goes through', async () => {
  fixture = await openFixture();
  const { db, models } = fixture;
  await db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
  const { space } = await fixture.add({
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/a@8',
    store: 'column',
    index: 'none',
  });
  const insert = (from: number) =>
    db.query(`INSERT INTO doc SELECT i, 'text ' || i FROM generate_series($1::int, $1::int + 19) i`, [from]);
  await db.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'read-only'; END $$`);
  const makeReadOnly = () =>
    db.exec('CREATE TRIGGER refuse BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION refuse()');
  vi.useFakeTimers({ toFake: ['performance'] });
  const gates = createGates(db, {}, () => {});
  const drainer = new Drainer({ db, models, gates, worker: 'test', batchKeys: 20 });
  const { signal } = new AbortController();
  const drain = () => drainer.drain(space.id, { stop: signal, cut: signal });
  const refused = async () => {
    await expect(drain()).rejects.toMatchObject({ code: 'P0001' });
    expect(await drain()).toMatchObject({ claimed: 0, tokens: 0 });
    const restMs = drainer.restsMs(space.id);
    vi.advanceTimersByTime(restMs);
    return restMs;
  };
  try {
    await insert(1);
    await makeReadOnly();
    expect([await refused(), await refused(), await refused()]).toEqual([5_000, 10_000, 20_000]);
    await db.exec('DROP TRIGGER refuse ON doc');
    expect(await drain()).toMatchObject({ written: 20 });
    await insert(101);
    await makeReadOnly();
    expect(await refused()).toBe(5_000);
    // One batch of this drain is written, the last one is not.
    await insert(301);
    await db.exec(`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF OLD.id > 315 THEN RAISE 'not for you' USING ERRCODE = 'insufficient_privilege'; END IF; RETURN NEW; END $$`);
    await expect(drain()).rejects.toMatchObject({ code: '42501' });
    expect(drainer.restsMs(space.id)).toBe(5_000);
  } finally {
    await drainer.close();
    await gates.close();
  }
});
