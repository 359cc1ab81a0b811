import { expect } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import { listMaintainedSpaces, type Space } from '../../src/catalog/space.js';
import type { Executor } from '../../src/db/database.js';
import { ident } from '../../src/db/identifiers.js';
import { INVARIANTS } from '../../src/reembed/states.js';
import { search } from '../../src/search/index.js';
import { vectorTable } from '../../src/store/table.js';
import { assertHistory, assertSpaceFresh } from '../faults/support/migrations.js';
import { checkInvariants } from '../reembed/support.js';
import { AWAY, live, type Model, present, type World } from './migration-model.js';

/** What holds after every command, whatever it was. */
export async function assertInvariants(model: Model, world: World): Promise<void> {
  const { db } = world;
  const source = await getSource(db, 'doc');
  const migration = await present(world);
  expect(migration?.state).toBe(model.migration?.state);
  expect(migration?.paused).toBe(model.migration?.paused);
  const { epoch, space } = await live(world);
  expect(epoch, 'I5').toBe(1 + model.switches);
  const maintained = (await listMaintainedSpaces(db, source.id)).map(({ id }) => id);
  expect(await enqueuedFor(db), 'I3').toEqual([maintained.join()]);
  const now = await things(db);
  expect(lost(model.things, now), 'I4').toEqual([]);
  model.things = now;
  if (migration) {
    await checkInvariants(db, migration.id);
    await assertHistory(db, migration.id);
    const [open] = await db.query<{ n: number }>(
      `SELECT count(*) AS n FROM freshvec.migration WHERE source_id = $1 AND state NOT IN ('done', 'aborted')`,
      [source.id],
    );
    expect(open?.n, 'I6').toBeLessThanOrEqual(1);
    const { parkedState, fromSpaceId, toSpaceId } = migration;
    if (parkedState !== undefined && parkedState !== 'parked' && parkedState !== 'contracting')
      expect(space.id, 'I1').toBe(INVARIANTS[parkedState].live === 'from' ? fromSpaceId : toSpaceId);
  }
  await assertSearch(model, world, space, epoch);
}

/** The spaces that capture's triggers name: one list, the same for all. */
async function enqueuedFor(db: Executor): Promise<string[]> {
  const rows = await db.query<{ spaces: string }>(
    `SELECT DISTINCT rtrim(replace(encode(tgargs, 'escape'), '\\000', ','), ',') AS spaces FROM pg_trigger
     WHERE tgrelid = 'doc'::regclass AND NOT tgisinternal AND tgname LIKE '%freshvec%' AND tgargs <> ''`,
  );
  return rows.map(({ spaces }) => spaces);
}

/** Columns of the table and tables of vectors, by what they are: names may change. */
export async function things(db: Executor): Promise<string[]> {
  const rows = await db.query<{ thing: string }>(
    `SELECT 'column ' || attnum AS thing FROM pg_attribute
     WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped
     UNION ALL SELECT 'table ' || oid FROM pg_class
     WHERE relnamespace = 'freshvec'::regnamespace AND relkind = 'r' AND relname ~ '^vector_[0-9]+$|^${AWAY}$'`,
  );
  return rows.map(({ thing }) => thing);
}

export function lost(before: readonly string[], now: readonly string[]): string[] {
  return before.filter((thing) => !now.includes(thing));
}

/** How many vectors each space has that is there, but for one that somebody took away. */
export async function countVectors({ db }: World, hidden: number | undefined): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  for (const space of await listMaintainedSpaces(db, (await getSource(db, 'doc')).id)) {
    if (space.id === hidden) continue;
    const [row] = await db.query<{ n: number }>(
      space.store === 'column'
        ? `SELECT count(${ident(space.column)}) AS n FROM doc`
        : `SELECT count(*) AS n FROM ${vectorTable(space)}`,
    );
    counts.set(space.id, row?.n ?? 0);
  }
  return counts;
}

/** Invariant C of the live space, once its workers have nothing left to do. */
export async function assertLiveFresh(model: Model, world: World): Promise<void> {
  const { space } = await live(world);
  await assertSpaceFresh(world, await getSource(world.db, 'doc'), space, model.text);
}

/**
 * A search for the text of row 1 is answered by the model that the pointer names, and by no other; the row is found if
 * its vector is of that text.
 */
async function assertSearch(model: Model, world: World, space: Space, epoch: number): Promise<void> {
  const { db, models } = world;
  const embedQuery = async (spec: string, text: string) => {
    const { vectors } = await (await models.get(spec)).embed([text], { purpose: 'query' });
    return vectors[0] ?? new Float32Array();
  };
  const [row] = await db.query<{ text: string }>(`SELECT ${model.text} AS text FROM doc WHERE id = 1`);
  const text = row?.text.trim() ? row.text : 'nothing';
  const found = search({ db, embedQuery, pointers: model.pointers }, 'doc', { text, k: 20 });
  if (model.hidden === space.id) {
    await expect(found).rejects.toThrow();
    model.told.add('searches failed for want of the vectors');
    return;
  }
  const { results, ...answer } = await found;
  expect(answer).toEqual({ epoch, space: space.id });
  expect(results.filter((hit) => hit.model !== space.fingerprint)).toEqual([]);
  if (!(await isFresh(db, model, space))) return;
  expect(results).toContainEqual(expect.objectContaining({ key: 1, stale: false }));
  model.told.add('the row was found');
}

/** Row 1 has its vector, by the hash. */
async function isFresh(db: Executor, { text }: Model, space: Space): Promise<boolean> {
  const [hash, of, from] =
    space.store === 'column'
      ? [ident(`${space.column}_hash`), ident(`${space.column}_model`), 'doc']
      : ['v.hash', 'v.model', `doc JOIN ${vectorTable(space)} v USING (id)`];
  const rows = await db.query(`SELECT 1 FROM ${from} WHERE id = 1 AND ${hash} = md5(${text})::uuid AND ${of} = $1`, [
    space.fingerprint,
  ]);
  return rows.length > 0;
}
