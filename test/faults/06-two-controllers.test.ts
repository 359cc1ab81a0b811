import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { getMigration, type MigrationState } from '../../src/catalog/migration.js';
import { getSourceById } from '../../src/catalog/source.js';
import { getSpace, liveSpace } from '../../src/catalog/space.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { indexName } from '../../src/store/index-state.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { checkInvariants, start } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { ensureBuilt } from './support/build.js';
import { type ControllerProcess, Controllers } from './support/controllers.js';
import {
  ASK,
  assertHistory,
  assertNothingElse,
  assertOneController,
  assertSpaceFresh,
  expireSingletons,
  logMigrations,
} from './support/migrations.js';
import { eachTry } from './support/tries.js';

const TIMEOUT_MS = 300_000;

/**
 * Where the first controller is stopped, just before it sends the statement. The second takes over once the first one's
 * lease has run out (the database's clock is put on) and goes on to `end`; the first wakes and sends it all the same.
 */
const SLEEPS: readonly { at: string; end: MigrationState; asks?: readonly ('cutover' | 'complete' | 'abort')[] }[] = [
  { at: '^planned, before: WITH moved AS \\(UPDATE freshvec.migration SET state', end: 'ready' },
  { at: '^expanding, before: DO ', end: 'ready' },
  { at: '^expanding, before: COMMIT', end: 'ready' },
  { at: '^backfilling, before: UPDATE freshvec.migration SET share', end: 'ready' },
  { at: '^backfilling, before: COMMIT', end: 'ready' },
  { at: '^indexing, before: CREATE INDEX', end: 'ready' },
  { at: '^verifying, before: UPDATE freshvec.migration SET gates', end: 'ready' },
  { at: '^verifying, before: COMMIT', end: 'ready' },
  { at: '^contracting, before: DROP INDEX', end: 'done', asks: ['cutover', 'complete'] },
  { at: '^contracting, before: VACUUM', end: 'done', asks: ['cutover', 'complete'] },
  { at: '^contracting, before: DO .*ALTER TABLE', end: 'done', asks: ['cutover', 'complete'] },
  { at: '^contracting, before: COMMIT of DO .*ALTER TABLE', end: 'aborted', asks: ['abort'] },
];

beforeAll(ensureBuilt, 180_000);

test(
  'fault 06: two controllers, one stopped past its lease, then continued [F O]',
  { timeout: TIMEOUT_MS },
  (context) =>
    eachTry(context, SLEEPS, ({ at, end, asks = [] }) =>
      withMigration(async (fixture, controllers, id) => {
        const first = controllers.start(id, { signal: 'SIGSTOP', at });
        const open = [...asks];
        const ask = async (controller: ControllerProcess) => {
          const state = await stateOf(fixture, id);
          if (open[0] && controller.rests() === state && ['ready', 'soaking'].includes(state)) {
            await ASK[open[0]](fixture.db, 'doc');
            open.shift();
          }
        };
        await until(fixture, id, `the first one to stop at ${at}`, async () => {
          await ask(first);
          return first.struck() !== undefined;
        });
        await expireSingletons(fixture.db);
        const second = controllers.start(id);
        await until(fixture, id, `the second one to come to ${end}`, async () => {
          await ask(second);
          return (await stateOf(fixture, id)) === end && second.rests() === end;
        });
        first.continue();
        await until(fixture, id, 'the first one to give up', async () => first.woke());
        expect(await stateOf(fixture, id)).toBe(end);
        await assertWhole(fixture, id);
      }),
    ),
);

/** An invalid index is renamed first, and dropped under that name. */
const DROPS = ['^indexing, before: DO ', '^indexing, before: DROP INDEX'];

test(
  'fault 06: stopped before it drops an invalid index, which is a valid one when it wakes [F O]',
  {
    timeout: TIMEOUT_MS,
  },
  (context) =>
    eachTry(context, DROPS, (at) =>
      withMigration(async (fixture, controllers, id) => {
        const { db } = fixture;
        const builder = controllers.start(id, { signal: 'SIGSTOP', at: '^indexing, before: CREATE INDEX' });
        await until(fixture, id, 'a build', async () => builder.struck() !== undefined);
        await builder.kill();
        const { source, space } = await target(fixture, id);
        const name = indexName(space);
        await db.exec(`CREATE INDEX ${name} ON doc USING hnsw (${space.column} vector_cosine_ops);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = '${name}'::regclass`);
        await expireSingletons(db);
        const sleeper = controllers.start(id, { signal: 'SIGSTOP', at });
        await until(fixture, id, 'a drop', async () => sleeper.struck() !== undefined);
        await expireSingletons(db);
        const second = controllers.start(id);
        await until(fixture, id, 'ready', async () => second.rests() === 'ready');
        const index = () => db.query('SELECT to_regclass($1)::oid::int8 AS oid', [name]);
        const built = await index();
        sleeper.continue();
        await until(fixture, id, 'the sleeper to give up', async () => sleeper.woke());
        expect(await indexState(db, source, space)).toBe('valid');
        expect(await index()).toEqual(built);
        await assertWhole(fixture, id);
      }),
    ),
);

test('fault 06: three controllers at once, stopped and continued at random [F O]', { timeout: TIMEOUT_MS }, async ({
  task,
}) => {
  task.meta.tries = 1;
  await withMigration(async (fixture, controllers, id) => {
    const all = [controllers.start(id), controllers.start(id), controllers.start(id)];
    const asks = ['cutover', 'rollback', 'cutover', 'complete'] as const;
    const at: MigrationState[] = ['ready', 'soaking', 'rolled_back', 'soaking', 'done'];
    for (const [i, state] of at.entries()) {
      await until(fixture, id, state, async () => {
        const sleeper = all[Math.floor(Math.random() * all.length)];
        sleeper?.stop();
        await expireSingletons(fixture.db);
        await sleep(50 * Math.random());
        sleeper?.continue();
        return (await stateOf(fixture, id)) === state;
      });
      const ask = asks[i];
      if (ask) await ASK[ask](fixture.db, 'doc');
    }
    await assertWhole(fixture, id);
  });
});

async function withMigration(
  fn: (fixture: Fixture, controllers: Controllers, id: number) => Promise<void>,
): Promise<void> {
  const fixture = await openFixture();
  const controllers = new Controllers(fixture.url);
  try {
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 50) i`);
    const { source, space } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    await ensureIndex(fixture.db, source, space);
    await logMigrations(fixture.db);
    const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await fn(fixture, controllers, id);
  } catch (error) {
    const [left] = await fixture.db.query(
      'SELECT state, reason, tries FROM freshvec.migration ORDER BY id DESC LIMIT 1',
    );
    const message = error instanceof Error ? error.message : error;
    throw new Error(`${message}\n${JSON.stringify(left)}\n${controllers.logs()}`, { cause: error });
  } finally {
    await controllers.close();
    await fixture.close();
  }
}

/** Works, and looks at the invariants, until `reached`. */
async function until(fixture: Fixture, id: number, what: string, reached: () => Promise<boolean>): Promise<void> {
  await eventually(
    async () => {
      await fixture.work();
      return reached();
    },
    { timeoutMs: 60_000, what },
  );
  await checkInvariants(fixture.db, id);
}

async function stateOf({ db }: Fixture, id: number): Promise<MigrationState> {
  const migration = await getMigration(db, id);
  if (!migration) throw new Error('the migration is gone');
  return migration.state;
}

async function target({ db }: Fixture, id: number) {
  const migration = await getMigration(db, id);
  const source = migration && (await getSourceById(db, migration.sourceId));
  const space = migration && (await getSpace(db, migration.toSpaceId));
  if (!source || !space) throw new Error('the new space is gone');
  return { source, space };
}

/** One controller wrote at a time; the live space is whole, and once the migration has ended there is nothing else. */
async function assertWhole(fixture: Fixture, id: number): Promise<void> {
  const { db } = fixture;
  await assertHistory(db, id);
  await assertOneController(db);
  const migration = await getMigration(db, id);
  const live = migration && (await liveSpace(db, migration.sourceId));
  const source = migration && (await getSourceById(db, migration.sourceId));
  if (!live || !source) throw new Error('there is no live space');
  await fixture.work();
  await assertSpaceFresh(fixture, source, live.space);
  if (['done', 'aborted'].includes(migration.state)) await assertNothingElse(db, source, live.space, ['id', 'body']);
  else await assertSpaceFresh(fixture, source, (await target(fixture, id)).space);
}
