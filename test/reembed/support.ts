import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { getMigration, type Migration } from '../../src/catalog/migration.js';
import { getSpace } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { advance } from '../../src/reembed/advance.js';
import { controlMigration } from '../../src/reembed/controller.js';
import type { ReembedDefinition, StartOptions } from '../../src/reembed/definition.js';
import type { ControllerDeps } from '../../src/reembed/operation.js';
import { planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { INVARIANTS } from '../../src/reembed/states.js';
import { takeOver } from '../../src/reembed/transition.js';
import type { Fixture } from '../support/fixture.js';

/** A controller without a throttle; gates pass unless given. */
export function deps(db: Database, over: Partial<ControllerDeps> = {}): ControllerDeps {
  return {
    db,
    runGates: async () => [],
    throttle: async () => ({ share: 1, signals: [] }),
    index: { maintenanceWorkMem: undefined, parallelWorkers: undefined },
    ...over,
  };
}

export async function start(
  { db, models }: Fixture,
  source: string,
  definition: ReembedDefinition,
  options: StartOptions = {},
): Promise<Migration> {
  const model = await models.get(definition.model ?? '');
  return startReembed(db, await planReembed(db, source, definition, model), options);
}

/** Works with one controller and workers until the migration is in one of these states, or rests. */
export async function workUntil(
  fixture: Fixture,
  id: number,
  states: readonly Migration['state'][],
  over: Partial<ControllerDeps> = {},
): Promise<Migration> {
  const stop = new AbortController();
  const controlling = keepControlling(deps(fixture.db, over), id, stop.signal);
  controlling.catch(() => {}); // Seen where it is awaited.
  try {
    // Not `eventually`: an invariant that does not hold even once is a failure.
    for (const deadline = Date.now() + 60_000; ; ) {
      const now = await getMigration(fixture.db, id);
      if (!now) throw new Error('the migration is gone');
      await checkInvariants(fixture.db, id);
      if (states.includes(now.state) || now.paused) return now;
      if (now.state === 'parked') throw new Error(`parked: ${now.reason}`);
      if (Date.now() > deadline) throw new Error(`still ${now.state}: ${now.reason}`);
      await fixture.work();
      // PGlite answers without a turn of the event loop: the controller's timers want one.
      await sleep(5);
    }
  } finally {
    stop.abort();
    await controlling;
  }
}

/** Takes one step after the other, as a controller of its own each, until the migration is in this state. */
export async function stepUntil(fixture: Fixture, id: number, state: Migration['state']): Promise<void> {
  for (let steps = 0; steps < 20; steps++) {
    const migration = await takeOver(fixture.db, id, randomUUID(), true);
    if (migration?.state === state) return;
    if (!migration) throw new Error(`it will not come to ${state}`);
    await fixture.work();
    await advance(deps(fixture.db), migration, new AbortController().signal);
  }
  throw new Error(`it did not come to ${state}`);
}

/** Comes back to the migration, as `startReembedder` does. */
async function keepControlling(with_: ControllerDeps, id: number, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    await controlMigration(with_, id, stop);
    await sleep(20, undefined, { signal: stop }).catch(() => {});
  }
}

/** What `states.ts` says holds in the state that the migration is in. */
export async function checkInvariants(db: Database, id: number): Promise<void> {
  await db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    const migration = await getMigration(tx, id);
    if (!migration || migration.state === 'parked') return;
    const holds = INVARIANTS[migration.state];
    const [pointer] = await tx.query<{ space: number }>(
      'SELECT space_id AS space FROM freshvec.pointer WHERE source_id = $1',
      [migration.sourceId],
    );
    const state = async (spaceId: number) => (await getSpace(tx, spaceId))?.state ?? 'absent';
    const live = pointer?.space;
    expect([migration.fromSpaceId, migration.toSpaceId]).toContain(live);
    if (migration.state !== 'contracting') {
      expect(live).toBe(holds.live === 'from' ? migration.fromSpaceId : migration.toSpaceId);
    }
    expect(holds.from).toContain(await state(migration.fromSpaceId));
    expect(holds.to).toContain(await state(migration.toSpaceId));
    if (live !== undefined) expect(await state(live)).toBe('live');
  });
}
