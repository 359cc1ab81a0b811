import { setTimeout as sleep } from 'node:timers/promises';
import { expect, type TestContext } from 'vitest';
import { createGates } from '../../../src/budget/gates.js';
import { getMigration, type Migration, type MigrationState } from '../../../src/catalog/migration.js';
import { getSourceById } from '../../../src/catalog/source.js';
import { liveSpace, type StoreKind } from '../../../src/catalog/space.js';
import type { Database } from '../../../src/db/database.js';
import type { StartOptions } from '../../../src/reembed/definition.js';
import { ensureIndex } from '../../../src/store/build-index.js';
import { drainOnce } from '../../../src/worker/once.js';
import { checkInvariants, start } from '../../reembed/support.js';
import { type Fixture, openFixture } from '../../support/fixture.js';
import { openTransaction } from '../index-builds.js';
import { type ControllerProcess, Controllers, type Struck } from './controllers.js';
import {
  ASK,
  assertHistory,
  assertNothingElse,
  assertOneController,
  assertSpaceFresh,
  expireSingletons,
  logMigrations,
} from './migrations.js';
import { SmallApp } from './small-app.js';

/** What somebody does once the migration is in a state: a command, or whatever else happens to it. */
export interface Turn {
  readonly in: MigrationState;
  readonly does: keyof typeof ASK | ((fixture: Fixture) => Promise<unknown>);
  /** By default once the controller has nothing more to do there. */
  readonly when?: (fixture: Fixture, migration: Migration) => boolean | Promise<boolean>;
}

/** A way that a migration takes, from one state to the next. */
export interface Path {
  readonly name: string;
  readonly from: StoreKind;
  readonly to: StoreKind;
  readonly table?: string;
  readonly options?: StartOptions;
  /** The real gates; else none holds anything back. */
  readonly gates?: boolean;
  /** Of the statements whose effect a kill undoes, half are struck, at one of their two boundaries; another way strikes all. */
  readonly sparse?: boolean;
  /** What it is parked for because of the kills; somebody resumes it then. */
  readonly parksFor?: RegExp;
  readonly turns: readonly Turn[];
  readonly end: 'done' | 'aborted';
  /** Fewer kills would show that boundaries are passed over. */
  readonly atLeast: number;
}

/**
 * Of a migration that is to rest half-way: workers pass over the other half of the pages, as if somebody were visiting
 * them, until it does.
 */
export function restingHalfWay(does: 'resume' | 'abort'): Turn[] {
  let visitor: Awaited<ReturnType<typeof openTransaction>> | undefined;
  const theOthers = `SELECT FROM freshvec.range
    WHERE purpose = 'load' AND to_page > pg_relation_size('doc') / current_setting('block_size')::int / 2 FOR UPDATE`;
  return [
    {
      in: 'backfilling',
      async does({ url }) {
        visitor = await openTransaction(url, 'BEGIN', theOthers);
      },
    },
    {
      in: 'backfilling',
      when: (_, { paused }) => paused,
      async does({ db }) {
        await visitor?.end();
        await ASK[does](db, 'doc');
      },
    },
  ];
}

/** More than there are boundaries: a controller that is killed for ever gets nowhere. */
const MOST_KILLS = 400;

/** Fills several pages, so that there is a half of it. */
const ROWS = `INSERT INTO doc SELECT i, 'text number ' || i || repeat(' and more', 100) FROM generate_series(1, 50) i`;

/** Kills one controller after the other on this path, each at the first boundary at which none was killed before. */
export async function killOn(path: Path, { task }: Pick<TestContext, 'task'>): Promise<void> {
  const { from, to, options, end, atLeast } = path;
  const fixture = await openFixture();
  const controllers = new Controllers(fixture.url, path.gates);
  const worker = keepWorking(fixture);
  let app: SmallApp | undefined;
  try {
    const { db } = fixture;
    await db.exec(`${path.table ?? 'CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL)'}; ${ROWS}`);
    const held = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', store: from });
    await fixture.work();
    await ensureIndex(db, held.source, held.space);
    await logMigrations(db);
    app = await SmallApp.start(fixture.url, fixture.models);
    const { id } = await start(fixture, 'doc', { model: 'fake/b@12', store: to }, options);
    const kills = await killAtEach(fixture, worker, controllers, id, path);
    task.meta.tries = kills.length;
    await app.stop();
    await worker.stop();
    app.assertUndisturbed();
    await assertEnd(fixture, id, end);
    await assertStruck(db, id, kills);
    expect(kills.length).toBeGreaterThanOrEqual(atLeast);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n${controllers.logs()}`, { cause: error });
  } finally {
    await app?.stop();
    await worker.stop().catch(() => {}); // Thrown above, if it is what failed.
    await controllers.close();
    await fixture.close();
  }
}

type Worker = ReturnType<typeof keepWorking>;

/** A worker in this process that is at it all the while, unless it is held. */
function keepWorking({ db, models }: Fixture) {
  const gates = createGates(db, {}, () => {});
  const stopped = new AbortController();
  let held = true;
  let cut = new AbortController();
  const drain = async () => {
    const signal = AbortSignal.any([stopped.signal, cut.signal]);
    await drainOnce({ db, models, gates, slots: 2, batchKeys: 50, signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  };
  let busy: Promise<unknown> = Promise.resolve();
  const loop = (async () => {
    while (!stopped.signal.aborted) {
      if (!held) busy = drain();
      await busy;
      await sleep(50, undefined, { signal: stopped.signal }).catch(() => {});
    }
  })();
  loop.catch(() => {}); // Thrown by `stop`.
  return {
    /** Resolves when it has let go of what it was at. */
    async hold(hold: boolean): Promise<void> {
      if (hold === held) return;
      held = hold;
      if (hold) cut.abort();
      else cut = new AbortController();
      await (hold && busy);
    },
    async stop(): Promise<void> {
      stopped.abort();
      await loop;
      await gates.close();
    },
  };
}

/** Resolves to where controllers were killed, once the migration has come to its end. */
async function killAtEach(
  fixture: Fixture,
  worker: Worker,
  controllers: Controllers,
  id: number,
  path: Path,
): Promise<Struck[]> {
  const kills: Struck[] = [];
  const left = [...path.turns];
  while (kills.length < MOST_KILLS) {
    const controller = controllers.start(id, {
      signal: 'SIGKILL',
      sparse: path.sparse,
      met: kills.map(({ key }) => key),
    });
    if (await untilKilled(fixture, worker, id, controller, { ...path, turns: left })) return kills;
    const struck = controller.struck();
    if (!struck) throw new Error('a controller ended by itself');
    kills.push(struck);
    await checkInvariants(fixture.db, id);
    await expireSingletons(fixture.db);
  }
  throw new Error(`killed ${kills.length} times, and still ${(await present(fixture.db, id)).state}`);
}

/** Takes turns while the controller lives; resolves to whether it came to the end, and ends it then. */
async function untilKilled(
  fixture: Fixture,
  worker: Worker,
  id: number,
  controller: ControllerProcess,
  { turns, parksFor, end }: Omit<Path, 'turns'> & { readonly turns: Turn[] },
): Promise<boolean> {
  const { db } = fixture;
  for (; controller.running; await sleep(10)) {
    await checkInvariants(db, id);
    const migration = await present(db, id);
    const { state } = migration;
    const [turn] = turns;
    if (state === 'parked' && turn?.in !== 'parked') {
      if (!parksFor?.test(migration.reason ?? '')) throw new Error(`parked: ${migration.reason}`);
      if (controller.rests() === 'parked') await ASK.resume(db, 'doc');
    }
    if (state === end && controller.rests() === end) {
      await controller.kill();
      return true;
    }
    await worker.hold(isHeld(turns));
    if (turn?.in !== state || !(await (turn.when?.(fixture, migration) ?? controller.rests() === state))) continue;
    await worker.hold(true);
    await (typeof turn.does === 'string' ? ASK[turn.does](db, 'doc') : turn.does(fixture));
    turns.shift();
  }
  return false;
}

/** What is to happen while it backfills happens before the rows are there, unless it comes by itself. */
function isHeld([turn]: readonly Turn[]): boolean {
  return (turn?.in === 'backfilling' || turn?.in === 'parked') && turn.when === undefined;
}

async function present(db: Database, id: number): Promise<Migration> {
  const migration = await getMigration(db, id);
  if (!migration) throw new Error('the migration is gone');
  return migration;
}

/** In every state that it went through somebody was killed. */
async function assertStruck(db: Database, id: number, kills: readonly Struck[]): Promise<void> {
  const struck = new Set(kills.map(({ state }) => state));
  const states = await db.query<{ state: string }>(
    'SELECT state FROM freshvec.migration_event WHERE migration_id = $1 GROUP BY state ORDER BY min(id)',
    [id],
  );
  expect(states.map(({ state }) => state).filter((state) => !struck.has(state))).toEqual([]);
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
