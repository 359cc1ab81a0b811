import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { latestMigration, type Migration, type MigrationState } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace, listMaintainedSpaces, liveSpace, type Space, type StoreKind } from '../../src/catalog/space.js';
import type { Database, Executor } from '../../src/db/database.js';
import { advance } from '../../src/reembed/advance.js';
import { pauseMigration } from '../../src/reembed/control.js';
import { MigrationMissing, MigrationRefused, ReembedRefused } from '../../src/reembed/errors.js';
import { type MigrationEvent, outcomeOf } from '../../src/reembed/states.js';
import { takeOver } from '../../src/reembed/transition.js';
import { removeSource } from '../../src/source/index.js';
import { indexName } from '../../src/store/index-state.js';
import { indexState } from '../../src/store/vector-indexes.js';
import {
  ASK,
  assertHistory,
  assertNothingElse,
  assertSpaceFresh,
  expireSingletons,
} from '../faults/support/migrations.js';
import { checkInvariants, deps, start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';

/** What the model knows: the migration's state as `states.ts` has it, and how often searches were switched. */
interface Model {
  migration: Pick<Migration, 'id' | 'state' | 'parkedState' | 'dropSpaceId' | 'toSpaceId' | 'paused'> | undefined;
  switches: number;
}

type Command = fc.AsyncCommand<Model, Fixture>;
type Asked = Extract<MigrationEvent, 'cutover' | 'rollback' | 'complete' | 'abort' | 'resume'>;

const MODELS = ['fake/a@8', 'fake/b@12'] as const;
const ENDED: readonly Migration['state'][] = ['done', 'aborted'];

class Killed extends Error {}

/** The database of a controller that is killed at its n-th statement: from there on it does nothing more. */
function mortal(db: Database, statements: number): Database {
  let left = statements;
  const alive = () => {
    if (left-- <= 0) throw new Killed();
  };
  const watched = (executor: Executor): Executor => ({
    async query(sql, params) {
      alive();
      return executor.query(sql, params);
    },
  });
  return {
    ...watched(db),
    kind: db.kind,
    async exec(sql) {
      alive();
      return db.exec(sql);
    },
    async tx(fn) {
      alive();
      return db.tx(async (tx) => {
        const result = await fn(watched(tx));
        alive(); // Before the COMMIT.
        return result;
      });
    },
    async session(fn) {
      alive();
      return db.session((session) => fn(watched(session)));
    },
    vectorExtension: () => db.vectorExtension(),
    listen: (channel, onNotify) => db.listen(channel, onNotify),
    close: async () => {},
  };
}

async function present({ db }: Fixture): Promise<Migration | undefined> {
  return latestMigration(db, (await getSource(db, 'doc')).id);
}

/** A command, and after it all that holds in any state. */
function command(name: string, run: (model: Model, fixture: Fixture) => Promise<void>): Command {
  return {
    check: () => true,
    async run(model, fixture) {
      await run(model, fixture);
      await assertInvariants(model, fixture);
    },
    toString: () => name,
  };
}

async function assertInvariants(model: Model, fixture: Fixture): Promise<void> {
  const { db } = fixture;
  const source = await getSource(db, 'doc');
  const migration = await latestMigration(db, source.id);
  expect(migration?.state).toBe(model.migration?.state);
  expect(migration?.paused).toBe(model.migration?.paused);
  expect((await liveSpace(db, source.id))?.epoch, 'I5').toBe(1 + model.switches);
  const maintained = (await listMaintainedSpaces(db, source.id)).map(({ id }) => id);
  expect(await enqueuedFor(db), 'I3').toEqual([maintained.join()]);
  if (migration) {
    await checkInvariants(db, migration.id);
    await assertHistory(db, migration.id);
  }
}

/** The spaces that capture's triggers name: one list, the same for all. */
async function enqueuedFor(db: Database): Promise<string[]> {
  const rows = await db.query<{ spaces: string }>(
    `SELECT DISTINCT rtrim(replace(encode(tgargs, 'escape'), '\\000', ','), ',') AS spaces FROM pg_trigger
     WHERE tgrelid = 'doc'::regclass AND NOT tgisinternal AND tgname LIKE '%freshvec%' AND tgargs <> ''`,
  );
  return rows.map(({ spaces }) => spaces);
}

async function assertLiveFresh(fixture: Fixture): Promise<void> {
  const source = await getSource(fixture.db, 'doc');
  const live = await liveSpace(fixture.db, source.id);
  if (!live) throw new Error('there is no live space');
  await assertSpaceFresh(fixture, source, live.space);
}

function begin(spec: (typeof MODELS)[number], store: StoreKind): Command {
  return command(`start(${spec}, ${store})`, async (model, fixture) => {
    const open = model.migration && !ENDED.includes(model.migration.state) ? await present(fixture) : undefined;
    const live = await liveSpace(fixture.db, (await getSource(fixture.db, 'doc')).id);
    const is = (space: Space | undefined) => space?.spec === spec && space.store === store;
    const started = start(fixture, 'doc', { model: spec, store });
    if (open && !is(open.target)) await expect(started).rejects.toThrow(MigrationRefused);
    else if (open) expect((await started).id).toBe(open.id);
    else if (is(live?.space)) await expect(started).rejects.toThrow(ReembedRefused);
    else model.migration = { ...(await started), state: 'planned' };
  });
}

/** One step of a controller that is new to the migration; killed at its n-th statement if told so. */
function step(killedAt: number | undefined): Command {
  return command(killedAt === undefined ? 'step' : `step, killed at statement ${killedAt}`, (model, fixture) =>
    takeStep(model, fixture, killedAt),
  );
}

async function takeStep(model: Model, fixture: Fixture, killedAt?: number): Promise<void> {
  const { migration: before } = model;
  if (!before) return;
  const db = killedAt === undefined ? fixture.db : mortal(fixture.db, killedAt);
  try {
    const taken = await takeOver(db, before.id, crypto.randomUUID(), true);
    const rests = before.paused || before.state === 'parked' || ENDED.includes(before.state);
    expect(taken === undefined).toBe(rests);
    if (taken) await advance(deps(db), taken, new AbortController().signal);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
  await expireSingletons(fixture.db);
  const after = await present(fixture);
  if (!after) throw new Error('the migration is gone');
  if (after.state !== before.state) {
    const legal = (['advance', 'recede'] as const).map((event) => outcomeOf(before, event));
    expect(legal, `from ${before.state}`).toContainEqual({ to: after.state });
  }
  model.migration = after;
}

function ask(event: Asked, drained: boolean): Command {
  return command(drained ? `${event}, drained` : event, async (model, fixture) => {
    const { migration } = model;
    const asked = ASK[event];
    if (!migration) return expect(asked(fixture.db, 'doc')).rejects.toThrow(MigrationMissing);
    const outcome = outcomeOf(migration, event);
    const refused =
      outcome !== 'same' && ('refused' in outcome || (event === 'cutover' && !(await isIndexed(fixture))));
    if (refused) return expect(asked(fixture.db, 'doc')).rejects.toThrow(MigrationRefused);
    const after = await asked(fixture.db, 'doc');
    // Taken from its controller, if there can be one; what changes nothing leaves it at its work.
    const changed = outcome !== 'same' || after.paused !== migration.paused;
    if (changed && !ENDED.includes(migration.state)) expect(after.token).toBeUndefined();
    const switches = outcome !== 'same' && (event === 'cutover' || event === 'rollback');
    model.migration = {
      ...after,
      state: outcome === 'same' ? migration.state : outcome.to,
      // Whoever gives up or completes wants it to go on.
      paused: migration.paused && event !== 'resume' && !(outcome !== 'same' && ['complete', 'abort'].includes(event)),
    };
    if (switches) model.switches += 1;
    if (!switches || !drained) return;
    await fixture.work();
    await assertLiveFresh(fixture);
  });
}

async function isIndexed(fixture: Fixture): Promise<boolean> {
  const migration = await present(fixture);
  const space = migration && (await getSpace(fixture.db, migration.toSpaceId));
  if (!space) return false;
  return (await indexState(fixture.db, await getSource(fixture.db, 'doc'), space)) === 'valid';
}

const pause = command('pause', async (model, fixture) => {
  const { migration } = model;
  const asked = pauseMigration(fixture.db, 'doc');
  if (!migration) await expect(asked).rejects.toThrow(MigrationMissing);
  else if (ENDED.includes(migration.state)) await expect(asked).rejects.toThrow(MigrationRefused);
  else {
    await asked;
    model.migration = { ...migration, paused: true };
  }
});

/** Somebody drops the new space's index. */
const dropIndex = command('drop the index', async (model, { db }) => {
  const space = model.migration && (await getSpace(db, model.migration.toSpaceId));
  if (!space) return;
  const schema = space.store === 'table' ? 'freshvec.' : '';
  await db.exec(`DROP INDEX IF EXISTS ${schema}${indexName(space)}`);
});

const drain = command('drain', async (_model, fixture) => {
  await fixture.work();
});

/** Workers and controllers in turn, as long as a migration takes from its start until people are asked. */
const goOn = command('go on', async (model, fixture) => {
  for (let i = 0; i < 7; i++) {
    await fixture.work();
    await takeStep(model, fixture);
    await assertInvariants(model, fixture);
  }
});

const write = (what: string, sql: string, params: readonly unknown[]) =>
  command(`${what} ${params.join(', ')}`, async (_model, { db }) => {
    await db.query(sql, params);
  });

const id = fc.integer({ min: 1, max: 6 });
const text = fc.constantFrom('a', 'b', 'c', 'd');
const commands = fc.commands(
  [
    fc.tuple(id, text).map(([key, body]) => write('edit', 'UPDATE doc SET body = $2 WHERE id = $1', [key, body])),
    fc
      .tuple(id, text)
      .map(([key, body]) => write('insert', 'INSERT INTO doc VALUES ($1, $2) ON CONFLICT DO NOTHING', [key, body])),
    id.map((key) => write('delete', 'DELETE FROM doc WHERE id = $1 AND id > 1', [key])),
    fc.constant(drain),
    fc.constant(drain),
    fc.tuple(fc.constantFrom(...MODELS), fc.constantFrom<StoreKind>('column', 'table')).map(([m, s]) => begin(m, s)),
    fc.tuple(fc.constantFrom(...MODELS), fc.constantFrom<StoreKind>('column', 'table')).map(([m, s]) => begin(m, s)),
    fc.constant(step(undefined)),
    fc.constant(goOn),
    fc.constant(goOn),
    fc.constant(goOn),
    fc.integer({ min: 0, max: 40 }).map(step),
    fc.integer({ min: 0, max: 40 }).map(step),
    fc.constant(pause),
    fc.constant(ask('resume', false)),
    fc.constant(ask('resume', false)),
    fc.boolean().map((drained) => ask('cutover', drained)),
    fc.boolean().map((drained) => ask('cutover', drained)),
    fc.boolean().map((drained) => ask('rollback', drained)),
    fc.constant(ask('complete', false)),
    // Rarely, else nothing gets far.
    fc.oneof({ weight: 1, arbitrary: fc.constant(ask('abort', false)) }, { weight: 3, arbitrary: fc.constant(goOn) }),
    fc.oneof({ weight: 1, arbitrary: fc.constant(dropIndex) }, { weight: 1, arbitrary: fc.constant(goOn) }),
  ],
  { maxCommands: 50, size: 'max' },
);

/** States that some history must come to. */
const TOLD: readonly MigrationState[] = ['aborted', 'done', 'ready', 'rolled_back', 'soaking'];

describe('any history of a migration', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test('keeps the invariants of its states, and ends with fresh vectors and nothing else', {
    timeout: 600_000,
  }, async () => {
    const { db } = fixture;
    const reached = new Set<string>();
    const missed = () => TOLD.filter((state) => !reached.has(state));
    const history = () =>
      fc
        .asyncProperty(commands, async (all) => {
          await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL);
            INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 5) i`);
          await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: MODELS[0] });
          const model: Model = { migration: undefined, switches: 0 };
          await fc.asyncModelRun(() => ({ model, real: fixture }), all);
          await finish(model, fixture);
          const events = await db.query<{ state: string }>('SELECT DISTINCT state FROM freshvec.migration_event');
          for (const { state } of events) reached.add(state);
        })
        .afterEach(async () => {
          await removeSource(db, 'doc', { dropVectors: true });
          await db.exec('DROP TABLE doc');
        });
    // Twenty histories may pass a state by; else little would be shown.
    for (let round = 0; round === 0 || (missed().length > 0 && round < 4); round++)
      await fc.assert(history(), { numRuns: 20, verbose: 1 });
    expect(missed()).toEqual([]);
  });
});

/** Brings whatever is open to an end. Then all rows are fresh in the live space, and no other has left anything. */
async function finish(model: Model, fixture: Fixture): Promise<void> {
  await fixture.work();
  await assertLiveFresh(fixture);
  const { db } = fixture;
  while (model.migration && !ENDED.includes(model.migration.state)) {
    const { state, parkedState, paused } = model.migration;
    if (paused || (state === 'parked' && parkedState === 'soaking')) await ask('resume', false).run(model, fixture);
    else if (state === 'soaking') await ask('complete', false).run(model, fixture);
    else if (state !== 'contracting') await ask('abort', false).run(model, fixture);
    else await takeStep(model, fixture);
    await assertInvariants(model, fixture);
  }
  await fixture.work();
  const source = await getSource(db, 'doc');
  const live = await liveSpace(db, source.id);
  if (!live) throw new Error('there is no live space');
  await assertSpaceFresh(fixture, source, live.space);
  // Its index is a matter of maintenance, and of whoever dropped it.
  await assertNothingElse(db, source, live.space, ['id', 'body'], { index: 'any' });
}
