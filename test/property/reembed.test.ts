import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { getSource } from '../../src/catalog/source.js';
import { createPointerCache } from '../../src/search/index.js';
import { removeSource } from '../../src/source/index.js';
import { assertNothingElse } from '../faults/support/migrations.js';
import { openFixture } from '../support/fixture.js';
import { bringBack, commands, MODELS, openings } from './migration-commands.js';
import { ENDED, live, type Model, type World } from './migration-model.js';
import { ask, takeStep } from './migration-moves.js';
import { assertInvariants, assertLiveFresh, things } from './migration-oracle.js';

/** What some history must come to: states, and what there is no state for. */
const TOLD = [
  'aborted',
  'done',
  'parked',
  'ready',
  'rolled_back',
  'soaking',
  'a worker was killed with leases',
  'abort of what was parked',
  'cutover with other names',
  'receded for an alter',
  'resume of what was parked',
  'searches failed for want of the vectors',
  'switched by itself',
  'the row was found',
];

const TABLES = {
  plain: 'CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL)',
  partitioned: `CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL) PARTITION BY HASH (id);
    CREATE TABLE doc_a PARTITION OF doc FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE doc_b PARTITION OF doc FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
} as const;
const table = fc.constantFrom<keyof typeof TABLES>('plain', 'plain', 'plain', 'partitioned');

describe('any history of a migration', () => {
  let world: World;
  beforeAll(async () => {
    const fixture = await openFixture();
    world = { ...fixture, budget: createGates(fixture.db, {}, () => {}) };
  });
  afterAll(async () => {
    await world?.budget.close();
    await world?.close();
  });

  test('keeps the invariants of its states, and ends with fresh vectors and nothing else', {
    timeout: 600_000,
  }, async () => {
    const { db } = world;
    const told = new Set<string>();
    const missed = () => TOLD.filter((what) => !told.has(what));
    const history = () =>
      fc
        .asyncProperty(table, openings, commands, async (kind, opening, all) => {
          await db.exec(`${TABLES[kind]}; INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 5) i`);
          await world.add({ table: 'doc', content: { columns: ['body'] }, model: MODELS[0] });
          const model: Model = {
            migration: undefined,
            switches: 0,
            text: 'body',
            hidden: undefined,
            things: await things(db),
            pointers: createPointerCache(),
            told,
          };
          const from = () => ({ model, real: world });
          await fc.asyncModelRun(from, opening);
          await fc.asyncModelRun(from, all);
          await finish(model, world);
          const events = await db.query<{ state: string }>('SELECT DISTINCT state FROM freshvec.migration_event');
          for (const { state } of events) told.add(state);
        })
        .afterEach(async () => {
          await db.exec('DROP TABLE IF EXISTS freshvec.mine');
          await removeSource(db, 'doc', { dropVectors: true });
          await db.exec('DROP TABLE doc');
        });
    // A few histories may pass something by; else little would be shown.
    for (let played = 0; played < 15 || (missed().length > 0 && played < 80); played += 5)
      await fc.assert(history(), { numRuns: 5, verbose: 1 });
    expect(missed()).toEqual([]);
  });
});

/** Brings whatever is open to an end. Then all rows are fresh in the live space, and no other has left anything. */
async function finish(model: Model, world: World): Promise<void> {
  const { db } = world;
  await bringBack(model, world);
  await world.work();
  await assertLiveFresh(model, world);
  while (model.migration && !ENDED.includes(model.migration.state)) {
    const { state, parkedState, paused } = model.migration;
    if (paused || (state === 'parked' && parkedState === 'soaking')) await ask(model, world, 'resume');
    else if (state === 'soaking') await ask(model, world, 'complete');
    else if (state !== 'contracting') await ask(model, world, 'abort');
    else await takeStep(model, world);
    await assertInvariants(model, world);
  }
  await world.work();
  const source = await getSource(db, 'doc');
  await assertLiveFresh(model, world);
  await bringBack(model, world);
  // Its index is a matter of maintenance, and of whoever dropped it.
  await assertNothingElse(db, source, (await live(world)).space, ['id', 'body'], { index: 'any' });
}
