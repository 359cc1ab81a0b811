import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Gates } from '../../src/budget/gates.js';
import { createGates } from '../../src/budget/gates.js';
import { emptyReport } from '../../src/stages/context.js';
import { Drainer } from '../../src/worker/drainer.js';
import { drainAlone } from '../support/drain-alone.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
let gates: Gates;
let drainer: Drainer;
let spaceId: number;

beforeEach(async () => {
  fixture = await openFixture();
  const { db, models } = fixture;
  await db.exec(
    `CREATE TABLE doc (id int PRIMARY KEY, body text); INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 60) i`,
  );
  const definition = { table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' } as const;
  spaceId = (await fixture.add(definition)).space.id;
  gates = createGates(db, {}, () => {});
  drainer = new Drainer({ db, models, gates, worker: 'test', batchKeys: 20 });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await drainer.close();
  await gates.close();
  await fixture.close();
});

const { signal } = new AbortController();
const now = performance.now.bind(performance);
/** Has the clock go ahead of the true one by so many ms. */
const aheadBy = (ms: number) => vi.spyOn(performance, 'now').mockImplementation(() => now() + ms);
const drain = async () => {
  const report = emptyReport();
  const error = await drainer.drain(spaceId, { stop: signal, cut: signal }, report).then(
    () => undefined,
    (failure: unknown) => failure,
  );
  return { ...report, error };
};
const leases = async () => (await fixture.db.query('SELECT FROM freshvec.lease')).length;

/** Whoever updates a row loses the connection. */
const DIE = `CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
    CREATE TRIGGER die BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION die()`;

test('what a lost connection kept from being written is written later, and not paid for again', async () => {
  const { db } = fixture;
  await db.exec(DIE);
  const lost = await drain();
  expect(lost).toMatchObject({ written: 0, failed: 0, error: expect.any(Error) });
  expect(lost.tokens).toBeGreaterThan(0);
  expect(drainer.parkedSpaces()).toEqual([spaceId]);
  // The next one fails before it has anything embedded.
  expect(await drain()).toMatchObject({ claimed: 0, tokens: 0, error: expect.any(Error) });
  await db.exec('DROP FUNCTION die CASCADE');
  const { written, tokens, error } = await drain();
  expect({ written, error }).toEqual({ written: 60, error: undefined });
  await db.exec('CREATE TABLE other (id int PRIMARY KEY, body text); INSERT INTO other SELECT id, body FROM doc');
  await fixture.add({ table: 'other', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  expect(lost.tokens + tokens).toBe((await fixture.work()).tokens);
  expect([await leases(), drainer.parkedSpaces()]).toEqual([0, []]);
});

test('it is given back where every try loses the connection for as long as a lease lasts', async () => {
  await fixture.db.exec(DIE);
  await drain();
  const held = await leases();
  expect(held).toBeGreaterThan(0);
  aheadBy(110_000);
  await drain();
  expect(await leases()).toBe(held);
  aheadBy(125_000);
  while (drainer.parkedSpaces().length > 0) await drain();
  expect(await leases()).toBe(0);
});

test('what the table refuses is given back at once: it may be for what only some of the rows say', async () => {
  await fixture.db.exec('ALTER TABLE doc ADD CHECK (embedding IS NULL)');
  expect((await drain()).error).toBeInstanceOf(Error);
  expect([await leases(), drainer.parkedSpaces()]).toEqual([0, []]);
});

test('what AFTER triggers take counts as locks held', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(61, 600) i;
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NULL; END $$;
    CREATE TRIGGER slow AFTER UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION slow()`);
  const { written } = await drainAlone(fixture, spaceId, 200);
  expect(written).toBe(600);
  // The first write has 200 rows; 12 are as many as fit into the time.
  const [row] = await db.query<{ writes: number }>('SELECT count(DISTINCT xmin::text)::int AS writes FROM doc');
  expect(row?.writes).toBeGreaterThan(10);
});
