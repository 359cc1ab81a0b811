import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import { type SearchDeps, search } from '../../src/search/search.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, switchTo } from './fixture.js';

/** Model a looks at the first two dimensions, model b at the last two of three more: compared across, all is wrong. */
async function embedQuery(spec: string, text: string): Promise<Float32Array> {
  const x = Number(text);
  return Float32Array.from(spec.startsWith('fake/a') ? [x, 1] : [0, x, 1]);
}

async function setUp(db: Database, table: string, store: 'column' | 'table') {
  await db.exec(
    `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, x real, owner text, hidden boolean NOT NULL DEFAULT false);
     INSERT INTO ${table} SELECT i, 'body ' || i, i, CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, 20) i`,
  );
  const source = await addSource(db, { table, filter: 'NOT hidden', tenantColumn: 'owner' });
  const a = await addSpace(db, source, { model: 'fake/a', dimensions: 2, store });
  const b = await addSpace(db, source, {
    model: 'fake/b',
    dimensions: 3,
    store,
    column: 'embedding_2',
    state: 'building',
  });
  await embedRows(db, source, a, 'ARRAY[x, 1]::real[]');
  await embedRows(db, source, b, 'ARRAY[0, x, 1]::real[]');
  await switchTo(db, a);
  const deps: SearchDeps = { db, embedQuery, pointers: createPointerCache() };
  return { source, a, b, deps };
}

function suite(database: () => Database): void {
  test.each(['column', 'table'] as const)(
    'a space that is not live is searched with its own model: %s',
    async (store) => {
      const db = database();
      const { source, a, b, deps } = await setUp(db, `look_${store}`, store);
      const live = await search(deps, source.name, { text: '7', k: 1 });
      expect(live).toMatchObject({ epoch: 1, space: a.id, results: [{ key: 7, model: 'fake/a@2#1' }] });
      for (const state of ['building', 'ready', 'retained']) {
        await db.query('UPDATE freshvec.space SET state = $2 WHERE id = $1', [b.id, state]);
        const found = await search(deps, source.name, { text: '7', k: 3, space: b.id });
        expect(found).toMatchObject({ epoch: 1, space: b.id });
        expect(found.results.map(({ model }) => model)).toEqual(Array(3).fill('fake/b@3#1'));
        expect(found.results[0]).toMatchObject({ key: 7, stale: false, distance: expect.closeTo(0, 5) });
      }
      // The pointer that is remembered stays the live one's.
      expect(deps.pointers.get(source.name)?.space.id).toBe(a.id);
      expect((await search(deps, source.name, { text: '7', k: 1, space: a.id })).space).toBe(a.id);
    },
  );

  test("the source's filter, the tenant and the caller's filter hold there too", async () => {
    const db = database();
    const { source, b, deps } = await setUp(db, 'filtered', 'column');
    await db.exec('UPDATE filtered SET hidden = true WHERE id = 8');
    const keys = async (request: object) =>
      (await search(deps, source.name, { text: '8', k: 20, space: b.id, ...request })).results.map(({ key }) => key);
    expect(await keys({})).toHaveLength(19);
    expect(await keys({ tenant: 'even' })).not.toContain(7);
    expect(await keys({ tenant: 'even', where: { id: { gt: 10 } } })).toHaveLength(5);
  });

  test('what cannot be searched is refused with a word', async () => {
    const db = database();
    const { source, a, b, deps } = await setUp(db, 'refused', 'table');
    const other = await setUp(db, 'another', 'table');
    const ask = (space: number, request: object = { text: '7' }) => search(deps, source.name, { ...request, space });
    await expect(ask(other.b.id)).rejects.toMatchObject({
      code: 'space_unknown',
      message: expect.stringContaining(`${b.id} (building, fake/b@3#1)`),
    });
    await expect(ask(999_999)).rejects.toMatchObject({ code: 'space_unknown' });
    for (const space of [0, 1.5, -1, 2 ** 31, Number.NaN])
      await expect(ask(space)).rejects.toMatchObject({ code: 'search_request_invalid' });
    await expect(ask(b.id, { vector: [7, 1] })).rejects.toMatchObject({ code: 'search_dimensions' });
    await expect(ask(b.id, { vector: [7, 1, 0], model: 'fake/a@2#1' })).rejects.toMatchObject({
      code: 'search_model_changed',
    });
    await db.query(`UPDATE freshvec.space SET state = 'dropped' WHERE id = $1`, [b.id]);
    await expect(ask(b.id)).rejects.toMatchObject({ code: 'space_dropped' });
    expect((await ask(a.id)).results[0]?.key).toBe(7);
  });

  test('a space that is dropped, or filled by another model, while the query is embedded', async () => {
    const db = database();
    const { source, b, deps } = await setUp(db, 'meanwhile_space', 'column');
    const meanwhile = (sql: string): SearchDeps => ({
      ...deps,
      embedQuery: async (spec, text) => {
        await db.query(sql, [b.id]);
        return embedQuery(spec, text);
      },
    });
    const renamed = meanwhile(`UPDATE freshvec.space SET fingerprint = 'fake/b@3#2' WHERE id = $1`);
    // No vector there is of that model yet: none is compared.
    expect(await search(renamed, source.name, { text: '7', space: b.id })).toMatchObject({ results: [], space: b.id });
    const dropped = meanwhile(`UPDATE freshvec.space SET state = 'dropped' WHERE id = $1`);
    await expect(search(dropped, source.name, { text: '7', space: b.id })).rejects.toMatchObject({
      code: 'space_dropped',
    });
  });
}

onPostgres(suite);
onPglite(suite);
