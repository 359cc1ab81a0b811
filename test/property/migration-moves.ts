import { expect } from 'vitest';
import type { MigrationState } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { DEFAULT_GATES } from '../../src/config/config.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import { MigrationMissing, MigrationRefused } from '../../src/reembed/errors.js';
import { runGates } from '../../src/reembed/gates/run.js';
import { type MigrationEvent, outcomeOf } from '../../src/reembed/states.js';
import { takeOver } from '../../src/reembed/transition.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { ASK, expireSingletons } from '../faults/support/migrations.js';
import { deps } from '../reembed/support.js';
import { ENDED, Killed, live, type Model, mortal, present, standing, type World } from './migration-model.js';
import { assertLiveFresh, countVectors, lost, things } from './migration-oracle.js';

export type Asked = Extract<MigrationEvent, 'cutover' | 'rollback' | 'complete' | 'abort' | 'resume'>;

/** One step of a controller that is new to the migration, with the real gates; killed at its n-th statement if told so. */
export async function takeStep(model: Model, world: World, killedAt?: number): Promise<void> {
  const { migration: before } = model;
  if (!before) return;
  const had = { things: model.things, vectors: await countVectors(world, model.hidden) };
  const { auto = false } = (await present(world)) ?? {};
  const { models, budget } = world;
  const db = killedAt === undefined ? world.db : mortal(world.db, killedAt);
  try {
    const taken = await takeOver(db, before.id, crypto.randomUUID(), true);
    const rests = before.paused || before.state === 'parked' || ENDED.includes(before.state);
    expect(taken === undefined).toBe(rests);
    const gates = {
      runGates: (of: Parameters<ReturnType<typeof deps>['runGates']>[0]) =>
        runGates({ ...of, db, models, budget, settings: DEFAULT_GATES }),
    };
    if (taken) await advance(deps(db, gates), taken, new AbortController().signal);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
  await expireSingletons(world.db);
  const after = await present(world);
  if (!after) throw new Error('the migration is gone');
  if (after.state !== before.state) {
    const grounded = model.hidden === undefined;
    const events: MigrationEvent[] = [
      'advance',
      'recede',
      ...(grounded ? [] : ['park' as const]),
      ...(auto ? ['cutover' as const] : []),
    ];
    expect(
      events.map((event) => outcomeOf(before, event)),
      `from ${before.state}: ${after.reason}`,
    ).toContainEqual({ to: after.state });
  }
  if (before.state === 'ready' && after.state === 'soaking') {
    model.switches += 1;
    model.told.add('switched by itself');
  }
  expect(after.paused).toBe(before.paused);
  await assertKept(model, world, had, before);
  model.migration = after;
}

/** I4: only contracting drops anything, and never of another space than the one that it is for. */
async function assertKept(
  model: Model,
  world: World,
  had: { readonly things: readonly string[]; readonly vectors: ReadonlyMap<number, number> },
  before: { readonly state: MigrationState; readonly dropSpaceId?: number | undefined },
): Promise<void> {
  const now = await things(world.db);
  const vectors = await countVectors(world, model.hidden);
  if (before.state !== 'contracting') expect(lost(had.things, now), 'I4').toEqual([]);
  else model.things = now;
  const fewer = [...had.vectors].filter(([id, n]) => vectors.get(id) !== n).map(([id]) => id);
  expect(
    fewer.filter((id) => before.state !== 'contracting' || id !== before.dropSpaceId),
    'I4',
  ).toEqual([]);
  expect((await live(world)).space.id === before.dropSpaceId && before.state === 'contracting', 'I4').toBe(false);
}

/** What a person asks for, with the answer that the table of states has. `how`: with new names, or with all worked off after it. */
export async function ask(model: Model, world: World, event: Asked, how?: 'drained' | 'renaming'): Promise<void> {
  const { migration } = model;
  const { db } = world;
  const rename = how === 'renaming';
  const asked = () => (rename ? control.cutover(db, 'doc', { rename }) : ASK[event](db, 'doc'));
  if (!migration) return expect(asked()).rejects.toThrow(MigrationMissing);
  const outcome = outcomeOf(migration, event);
  const refused =
    (outcome === 'same' && rename && !migration.renamed) ||
    (outcome !== 'same' && ('refused' in outcome || (await isBarred(model, world, event, rename))));
  if (refused) return expect(asked()).rejects.toThrow(MigrationRefused);
  const after = await asked();
  // Taken from its controller, if there can be one; what changes nothing leaves it at its work.
  const changed = outcome !== 'same' || after.paused !== migration.paused;
  if (changed && !ENDED.includes(migration.state)) expect(after.token).toBeUndefined();
  const switches = outcome !== 'same' && (event === 'cutover' || event === 'rollback');
  if (migration.state === 'parked') model.told.add(`${event} of what was parked`);
  if (switches && after.renamed !== migration.renamed) model.told.add(`${event} with other names`);
  model.migration = {
    ...after,
    state: outcome === 'same' ? migration.state : outcome.to,
    // Whoever gives up or completes wants it to go on.
    paused: migration.paused && event !== 'resume' && !(outcome !== 'same' && ['complete', 'abort'].includes(event)),
  };
  if (switches) model.switches += 1;
  if (!switches || how !== 'drained' || model.hidden !== undefined) return;
  await world.work();
  await assertLiveFresh(model, world);
}

/** What keeps searches from being switched, and old vectors from being dropped, whatever the table says. */
async function isBarred(model: Model, world: World, event: Asked, rename: boolean): Promise<boolean> {
  const { migration, hidden } = model;
  if (event === 'rollback') return hidden === migration?.fromSpaceId;
  if (event === 'complete') return hidden === migration?.toSpaceId;
  if (event !== 'cutover') return false;
  const to = await standing(world, migration?.toSpaceId);
  const from = await standing(world, migration?.fromSpaceId);
  if (!to || !from || hidden === to.id) return true;
  if (rename && (from.store === 'table' || to.store === 'table')) return true;
  const [loading] = await world.db.query(`SELECT 1 FROM freshvec.range WHERE space_id = $1 AND purpose = 'load'`, [
    to.id,
  ]);
  return loading !== undefined || (await indexState(world.db, await getSource(world.db, 'doc'), to)) !== 'valid';
}
