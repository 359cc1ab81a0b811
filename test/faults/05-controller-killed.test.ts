import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { getMigration, type Migration, type MigrationState } from '../../src/catalog/migration.js';
import { getSourceById } from '../../src/catalog/source.js';
import { liveSpace, type StoreKind } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { checkInvariants, start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { ensureBuilt } from './support/build.js';
import { Controllers, type Struck } from './support/controllers.js';
import {
  ASK,
  assertHistory,
  assertNothingElse,
  assertOneController,
  assertSpaceFresh,
  expireSingletons,
  logMigrations,
} from './support/migrations.js';
import { SmallApp } from './support/small-app.js';

/**
 * A controller is killed (SIGKILL, a process of its own) before it sends a statement, the next one a little later, once
 * the statement was sent: at every statement of every state, COMMIT included, until one gets through to the end. A
 * statement that only reads is passed over: who is killed there is killed after the last one that wrote. Each continues
 * where its predecessor was killed, and is killed at the first boundary at which none was before. That the dead one's
 * lease of 30 s runs out is the database's clock, which is put on.
 */

type Command = 'cutover' | 'rollback' | 'complete' | 'abort';

interface Path {
  readonly name: string;
  readonly from: StoreKind;
  readonly to: StoreKind;
  /** What people ask for, one after the other, each once the controllers have nothing more to do in that state. */
  readonly asks: readonly (readonly [MigrationState, Command])[];
  readonly end: MigrationState;
}

const PATHS: readonly Path[] = [
  {
    name: 'column to column, back and forth, to the end',
    from: 'column',
    to: 'column',
    asks: [
      ['ready', 'cutover'],
      ['soaking', 'rollback'],
      ['rolled_back', 'cutover'],
      ['soaking', 'complete'],
    ],
    end: 'done',
  },
  { name: 'table to column, aborted', from: 'table', to: 'column', asks: [['ready', 'abort']], end: 'aborted' },
];

const TIMEOUT_MS = 600_000;
/** More than there are boundaries: a controller that is killed for ever gets nowhere. */
const MOST_KILLS = 400;

beforeAll(ensureBuilt, 180_000);

test.for(PATHS)(
  'fault 05: migration controller killed at every statement boundary in turn: $name [F O C]',
  { timeout: TIMEOUT_MS },
  async ({ from, to, asks, end }, { task }) => {
    const fixture = await openFixture();
    const controllers = new Controllers(fixture.url);
    let app: SmallApp | undefined;
    try {
      const { db } = fixture;
      await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL);
        INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 50) i`);
      const held = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', store: from });
      await fixture.work();
      await ensureIndex(db, held.source, held.space);
      await logMigrations(db);
      app = await SmallApp.start(fixture.url, fixture.models);
      const { id } = await start(fixture, 'doc', { model: 'fake/b@12', store: to });
      const kills = await killAtEach(fixture, controllers, id, asks, end);
      task.meta.tries = kills.length;
      await app.stop();
      app.assertUndisturbed();
      await assertEnd(fixture, id, end);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}\n${controllers.logs()}`, { cause: error });
    } finally {
      await app?.stop();
      await controllers.close();
      await fixture.close();
    }
  },
);

/** Resolves to where controllers were killed, once the migration has come to this end. */
async function killAtEach(
  fixture: Fixture,
  controllers: Controllers,
  id: number,
  asks: Path['asks'],
  end: MigrationState,
): Promise<Struck[]> {
  const { db } = fixture;
  const kills: Struck[] = [];
  const open = [...asks];
  while (kills.length < MOST_KILLS) {
    const controller = controllers.start(id, { signal: 'SIGKILL', met: kills.map(({ key }) => key) });
    while (controller.running) {
      await checkInvariants(db, id);
      const migration = await present(db, id);
      if (migration.state === 'parked') throw new Error(`parked: ${migration.reason}`);
      if (migration.state === end && controller.rests() === end) break;
      const [ask] = open;
      if (ask?.[0] === migration.state && controller.rests() === ask[0]) {
        await ASK[ask[1]](db, 'doc');
        open.shift();
      }
      await fixture.work();
      await sleep(10);
    }
    const struck = controller.struck();
    if (controller.running) {
      await controller.kill();
      return kills;
    }
    if (!struck) throw new Error('a controller ended by itself');
    kills.push(struck);
    await checkInvariants(db, id);
    await expireSingletons(db);
  }
  throw new Error(`killed ${kills.length} times, and still ${(await present(db, id)).state}`);
}

async function present(db: Database, id: number): Promise<Migration> {
  const migration = await getMigration(db, id);
  if (!migration) throw new Error('the migration is gone');
  return migration;
}

async function assertEnd(fixture: Fixture, id: number, end: MigrationState): Promise<void> {
  const { db } = fixture;
  const migration = await present(db, id);
  expect(migration.state).toBe(end);
  await fixture.work();
  const source = await getSourceById(db, migration.sourceId);
  const live = await liveSpace(db, migration.sourceId);
  if (!source || !live) throw new Error('there is no live space');
  expect(live.space.id).toBe(end === 'done' ? migration.toSpaceId : migration.fromSpaceId);
  await assertSpaceFresh(fixture, source, live.space);
  await assertNothingElse(db, source, live.space, ['id', 'body']);
  await assertHistory(db, id);
  await assertOneController(db);
}
