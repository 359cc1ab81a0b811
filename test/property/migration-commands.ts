import fc from 'fast-check';
import { expect } from 'vitest';
import type { Space, StoreKind } from '../../src/catalog/space.js';
import { ident } from '../../src/db/identifiers.js';
import { acceptGates, pauseMigration } from '../../src/reembed/control.js';
import type { StartOptions } from '../../src/reembed/definition.js';
import { MigrationMissing, MigrationRefused, ReembedRefused } from '../../src/reembed/errors.js';
import { alterSource } from '../../src/source/index.js';
import { indexName } from '../../src/store/index-state.js';
import { drainOnce } from '../../src/worker/once.js';
import { start } from '../reembed/support.js';
import { AWAY, ENDED, Killed, live, type Model, mortal, present, standing, type World } from './migration-model.js';
import { type Asked, ask, takeStep } from './migration-moves.js';
import { assertInvariants, things } from './migration-oracle.js';

type Command = fc.AsyncCommand<Model, World>;

export const MODELS = ['fake/a@8', 'fake/b@12'] as const;

/** A command, and after it all that holds in any state; left out where the model is not as `when` wants it. */
function command(
  name: string,
  run: (model: Model, world: World) => Promise<void>,
  when: (model: Readonly<Model>) => boolean = () => true,
): Command {
  return {
    check: when,
    async run(model, world) {
      await run(model, world);
      await assertInvariants(model, world);
    },
    toString: () => name,
  };
}

function begin(spec: (typeof MODELS)[number], store: StoreKind, options: StartOptions): Command {
  return command(`start(${spec}, ${store}, ${JSON.stringify(options)})`, async (model, world) => {
    if (model.hidden !== undefined) return; // A plan reads what is not there.
    const open = model.migration && !ENDED.includes(model.migration.state) ? await present(world) : undefined;
    const is = (space: Space | undefined) => space?.spec === spec && space.store === store;
    const others =
      open !== undefined &&
      ((open.switchedAt === undefined && options.auto === true && !open.auto) ||
        (options.retainSeconds !== undefined && options.retainSeconds !== open.retainSeconds));
    const started = start(world, 'doc', { model: spec, store }, options);
    if (open && (!is(open.target) || others)) await expect(started).rejects.toThrow(MigrationRefused);
    else if (open) expect((await started).id).toBe(open.id);
    else if (is((await live(world)).space)) await expect(started).rejects.toThrow(ReembedRefused);
    else model.migration = { ...(await started), state: 'planned' };
  });
}

/** One step of a controller that is new to the migration; killed at its n-th statement if told so. */
const step = (killedAt: number | undefined) =>
  command(killedAt === undefined ? 'step' : `step, killed at statement ${killedAt}`, (model, world) =>
    takeStep(model, world, killedAt),
  );

const asks = (event: Asked, how?: 'drained' | 'renaming') =>
  command(how === undefined ? event : `${event}, ${how}`, (model, world) => ask(model, world, event, how));

/** Where it is parked only: chance alone would seldom ask then, and little would get far. */
const whereParked = (event: Asked) =>
  command(
    `${event}, where it is parked`,
    (model, world) => ask(model, world, event),
    ({ migration }) => migration?.state === 'parked',
  );

const pause = command('pause', async (model, world) => {
  const { migration } = model;
  const asked = pauseMigration(world.db, 'doc');
  if (!migration) await expect(asked).rejects.toThrow(MigrationMissing);
  else if (ENDED.includes(migration.state)) await expect(asked).rejects.toThrow(MigrationRefused);
  else {
    await asked;
    model.migration = { ...migration, paused: true };
  }
});

const accept = (gate: string) =>
  command(`accept ${gate}`, async (model, world) => {
    const measured = model.migration && (await present(world))?.gates.some(({ name }) => name === gate);
    const asked = acceptGates(world.db, 'doc', [gate]);
    if (!model.migration) await expect(asked).rejects.toThrow(MigrationMissing);
    else if (gate === 'coverage' || !measured) await expect(asked).rejects.toThrow(MigrationRefused);
    else expect((await asked).accepted).toContain(gate);
  });

/** Another content: what was being checked, or was found good, is filled and checked anew. */
const alter = command('alter the content', async (model, { db }) => {
  model.text = model.text === 'body' ? 'upper(body)' : 'body';
  await alterSource(db, 'doc', { content: model.text === 'body' ? { columns: ['body'] } : { sql: model.text } });
  const { migration } = model;
  if (!migration || !['verifying', 'ready'].includes(migration.parkedState ?? migration.state)) return;
  model.migration = { ...migration, [migration.state === 'parked' ? 'parkedState' : 'state']: 'backfilling' };
  model.told.add('receded for an alter');
});

/** Somebody drops the new space's index. */
const dropIndex = command('drop the index', async (model, world) => {
  const space = await standing(world, model.migration?.toSpaceId);
  if (!space) return;
  const schema = space.store === 'table' ? 'freshvec.' : '';
  await world.db.exec(`DROP INDEX IF EXISTS ${schema}${indexName(space)}`);
});

const vectorsOf = ({ store, id, column }: Space): [string, string] =>
  store === 'table' ? [`freshvec.vector_${id}`, ''] : ['doc', ident(column)];

/** Somebody renames the vectors of one of the two spaces; the next step finds that out. */
const hide = (which: 'fromSpaceId' | 'toSpaceId') =>
  command(`rename the vectors of ${which} away`, async (model, world) => {
    const { migration } = model;
    if (!migration || ENDED.includes(migration.state) || model.hidden !== undefined) return;
    const space = await standing(world, migration[which]);
    if (!space) return;
    const [table, column] = vectorsOf(space);
    await world.db.exec(`ALTER TABLE ${table} RENAME ${column} TO ${AWAY}`);
    model.hidden = space.id;
    await takeStep(model, world);
  });

/** Back to the name that they have now, or away for good where nobody wants them any more. */
export async function bringBack(model: Model, world: World): Promise<void> {
  if (model.hidden === undefined) return;
  const space = await standing(world, model.hidden);
  model.hidden = undefined;
  if (space?.store === 'table') await world.db.exec(`ALTER TABLE freshvec.${AWAY} RENAME TO vector_${space.id}`);
  else if (space) await world.db.exec(`ALTER TABLE doc RENAME ${AWAY} TO ${ident(space.column)}`);
  else {
    await world.db.exec(`ALTER TABLE doc DROP COLUMN IF EXISTS ${AWAY}; DROP TABLE IF EXISTS freshvec.${AWAY}`);
    model.things = await things(world.db);
  }
}

const back = command('bring them back', bringBack);

/** While vectors are away: long enough for what can be worked off. What is copied from there would be waited for. */
const AWAY_MS = 300;

async function work(model: Model, world: World): Promise<void> {
  if (model.hidden === undefined) await world.work();
  else await drainUntil(model, world, AbortSignal.timeout(AWAY_MS));
}

async function drainUntil({ hidden }: Model, { db, models, budget }: World, signal: AbortSignal): Promise<void> {
  await drainOnce({ db, models, gates: budget, slots: 2, batchKeys: 2, signal }).catch((error: unknown) => {
    if (!signal.aborted && hidden === undefined) throw error;
  });
}

const drain = command('drain', work);

/** A worker that is killed at its n-th statement; its leases have run out by the time that anybody looks. */
const workKilled = (statements: number) =>
  command(`drain, killed at statement ${statements}`, async ({ told, hidden }, world) => {
    const { models, budget, db } = world;
    const signal = new AbortController().signal;
    await drainOnce({ db: mortal(db, statements), models, gates: budget, slots: 2, batchKeys: 2, signal }).catch(
      (error: unknown) => {
        if (!(error instanceof Killed) && hidden === undefined) throw error;
      },
    );
    const left = await db.query(
      `UPDATE freshvec.lease SET expires_at = clock_timestamp() WHERE token IS NOT NULL RETURNING 1`,
    );
    if (left.length > 0) told.add('a worker was killed with leases');
  });

/** A worker that is told to stop in the middle. */
const workCut = (ms: number) =>
  command(`drain, cut off after ${ms} ms`, (model, world) => drainUntil(model, world, AbortSignal.timeout(ms)));

/** Workers and controllers in turn, as long as a migration takes from its start until people are asked. */
const goOn = command('go on', async (model, world) => {
  for (let i = 0; i < (model.hidden === undefined ? 7 : 1); i++) {
    await work(model, world);
    await takeStep(model, world);
    await assertInvariants(model, world);
  }
});

const write = (what: string, sql: string, params: readonly unknown[] = []) =>
  command(`${what} ${params.join(', ')}`, async (_model, { db }) => {
    await db.query(sql, params);
  });

const truncate = command('truncate', async (_model, { db }) => {
  await db.exec(`TRUNCATE doc; INSERT INTO doc VALUES (1, 'anew')`);
});

const id = fc.integer({ min: 1, max: 6 });
const text = fc.constantFrom('a', 'b', 'c', 'd', ' ');
const options = fc.oneof(
  { weight: 2, arbitrary: fc.constant<StartOptions>({}) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<StartOptions>({ auto: true }, { auto: true, retainSeconds: 0 }),
  },
);
const started = fc
  .tuple(fc.constantFrom(...MODELS), fc.constantFrom<StoreKind>('column', 'column', 'table'), options)
  .map(([m, s, o]) => begin(m, s, o));
/** As likely as one of the others among these. */
const one = (...all: readonly Command[]) => fc.constantFrom(...all);

/** How a history opens: with nothing, or on a way that chance alone seldom finds. */
export const openings = fc.constantFrom<readonly Command[]>(
  [],
  [],
  [begin(MODELS[1], 'column', {}), goOn, asks('cutover', 'renaming')],
  [begin(MODELS[1], 'table', {}), goOn, hide('toSpaceId'), back, whereParked('resume')],
);

export const commands = fc.commands(
  [
    fc.tuple(id, text).map(([key, body]) => write('edit', 'UPDATE doc SET body = $2 WHERE id = $1', [key, body])),
    fc
      .tuple(id, text)
      .map(([key, body]) => write('insert', 'INSERT INTO doc VALUES ($1, $2) ON CONFLICT DO NOTHING', [key, body])),
    fc.oneof(
      id.map((key) => write('delete', 'DELETE FROM doc WHERE id = $1 AND id > 1', [key])),
      fc
        .tuple(id, id)
        .map((keys) =>
          write(
            'rekey',
            'UPDATE doc SET id = $2 WHERE id = $1 AND id > 1 AND NOT EXISTS (SELECT FROM doc WHERE id = $2)',
            keys,
          ),
        ),
    ),
    one(drain, drain, drain, truncate, alter),
    fc.oneof(fc.integer({ min: 5, max: 80 }).map(workKilled), fc.integer({ min: 0, max: 40 }).map(workCut)),
    started,
    started,
    fc.constant(step(undefined)),
    fc.constant(goOn),
    fc.constant(goOn),
    fc.constant(goOn),
    fc.integer({ min: 0, max: 40 }).map(step),
    fc.integer({ min: 0, max: 40 }).map(step),
    one(pause, accept('pending'), accept('coverage')),
    one(asks('resume'), back),
    one(whereParked('resume'), back),
    one(whereParked('resume'), back, whereParked('abort')),
    one(asks('cutover'), asks('cutover', 'renaming')),
    one(asks('cutover', 'drained'), asks('cutover', 'renaming')),
    one(asks('rollback'), asks('rollback', 'drained')),
    fc.constant(asks('complete')),
    // Rarely, else nothing gets far.
    one(asks('abort'), goOn, goOn, hide('toSpaceId'), hide('fromSpaceId')),
    one(dropIndex, goOn, alter),
  ],
  { maxCommands: 50, size: 'max' },
);
