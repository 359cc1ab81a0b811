import { expect, test } from 'vitest';
import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import type { Database, Row } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import { search } from '../../src/search/search.js';
import { instead } from '../support/instead.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, openServer, switchTo } from './fixture.js';

/** Model a looks at the first two dimensions, model b at the last two: compared across, everything is at distance 1. */
const VECTORS = { a: 'ARRAY[x, 1, 0, 0]::real[]', b: 'ARRAY[0, 0, x, 1]::real[]' } as const;

async function embedQuery(spec: string, text: string): Promise<Float32Array> {
  const x = Number(text);
  return Float32Array.from(spec.startsWith('fake/a') ? [x, 1, 0, 0] : [0, 0, x, 1]);
}

interface Moving {
  readonly source: Source;
  readonly a: Space;
  readonly b: Space;
}

async function moving(db: Database, table: string, store: Space['store']): Promise<Moving> {
  await db.exec(
    `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, x real);
     INSERT INTO ${table} SELECT i, 'body ' || i, i FROM generate_series(1, 50) i`,
  );
  const source = await addSource(db, { table });
  const a = await addSpace(db, source, { model: 'fake/a', dimensions: 4, store });
  const b = await addSpace(db, source, {
    model: 'fake/b',
    dimensions: 4,
    store,
    column: 'embedding_b',
    state: 'retained',
  });
  await embedRows(db, source, a, VECTORS.a);
  await embedRows(db, source, b, VECTORS.b);
  await switchTo(db, a);
  return { source, a, b };
}

function suite(database: () => Database): void {
  test('a search that remembers the former pointer asks again with the model that is live', async () => {
    const db = database();
    const { source, b } = await moving(db, 'once', 'column');
    const deps = { db, embedQuery, pointers: createPointerCache() };
    expect((await search(deps, source.name, { text: '7', k: 1 })).results[0]).toMatchObject({
      key: 7,
      model: 'fake/a@4#1',
    });
    await switchTo(db, b);
    const after = await search(deps, source.name, { text: '7', k: 1 });
    expect(after.epoch).toBe(2);
    expect(after.results[0]).toMatchObject({ key: 7, model: 'fake/b@4#1', distance: expect.closeTo(0, 5) });
    expect(deps.pointers.get(source.name)?.epoch).toBe(2);
  });

  test('a switch while the query is being embedded is seen', async () => {
    const db = database();
    const { source, a, b } = await moving(db, 'meanwhile', 'table');
    const asked: string[] = [];
    const slow = async (spec: string, text: string) => {
      asked.push(spec);
      await switchTo(db, spec.startsWith('fake/a') ? b : a);
      return embedQuery(spec, text);
    };
    const { results } = await search({ db, embedQuery: slow, pointers: createPointerCache() }, source.name, {
      text: '7',
    });
    // After both models have been asked once, pointer and vectors are read in one snapshot.
    expect(asked).toEqual(['fake/a@4', 'fake/b@4']);
    expect(results[0]).toMatchObject({ key: 7, distance: expect.closeTo(0, 5) });
  });

  test('a switch between the two questions of a filtered search is seen', async () => {
    const db = database();
    const { source, b } = await moving(db, 'twice', 'column');
    let switched = false;
    const switching = instead(db, {
      tx: (fn) =>
        db.tx((tx) =>
          fn(
            instead(tx, {
              query: async <R extends Row>(text: string, params?: readonly unknown[]) => {
                const rows = await tx.query<R>(text, params);
                if (text.includes('__fv_distance') && !switched) {
                  switched = true;
                  await switchTo(tx, b);
                }
                return rows;
              },
            }),
          ),
        ),
    });
    const deps = { db: switching, embedQuery, pointers: createPointerCache() };
    const { results, epoch } = await search(deps, source.name, { text: '2', k: 5, where: { id: { lte: 2 } } });
    expect(epoch).toBe(2);
    expect(results.map(({ key, model }) => [key, model])).toEqual([
      [2, 'fake/b@4#1'],
      [1, 'fake/b@4#1'],
    ]);
  });

  test('a raw vector is refused when the model was switched under it', async () => {
    const db = database();
    const { source, b } = await moving(db, 'raw', 'column');
    const deps = { db, embedQuery, pointers: createPointerCache() };
    const request = { vector: [7, 1, 0, 0], k: 1 };
    await search(deps, source.name, request);
    await switchTo(db, b);
    await expect(search(deps, source.name, request)).rejects.toMatchObject({ code: 'search_model_changed' });
    const named = { ...request, model: 'fake/a@4#1' };
    await expect(search(deps, source.name, named)).rejects.toMatchObject({ code: 'search_model_changed' });
    await expect(search(deps, source.name, { vector: [0, 0, 7, 1], model: 'fake/b@4#1' })).resolves.toMatchObject({
      epoch: 2,
    });
  });

  test('an altered filter, content, column or a new column is seen', async () => {
    const db = database();
    const { source } = await moving(db, 'altered', 'column');
    const deps = { db, embedQuery, pointers: createPointerCache() };
    const first = async () => (await search(deps, source.name, { text: '7', k: 1 })).results[0];
    expect(await first()).toMatchObject({ key: 7, stale: false });
    await db.query(`UPDATE freshvec.source SET filter_sql = 'id <> 7' WHERE id = $1`, [source.id]);
    expect((await first())?.key).not.toBe(7);
    await db.query(`UPDATE freshvec.source SET filter_sql = NULL, content_columns = '{x}' WHERE id = $1`, [source.id]);
    expect(await first()).toMatchObject({ key: 7, stale: true });
    await db.exec('ALTER TABLE altered ADD COLUMN note text DEFAULT 1');
    expect((await first())?.row).toMatchObject({ note: '1' });
    await db.exec('ALTER TABLE altered DROP COLUMN note');
    expect((await first())?.row).not.toHaveProperty('note');
    await db.exec('ALTER TABLE altered RENAME COLUMN body TO text');
    expect((await first())?.row).toMatchObject({ text: 'body 7' });
  });

  test('a source that was removed and added anew is found', async () => {
    const db = database();
    const { source } = await moving(db, 'anew', 'table');
    const deps = { db, embedQuery, pointers: createPointerCache() };
    await search(deps, source.name, { text: '7' });
    await db.query('DELETE FROM freshvec.pointer WHERE source_id = $1', [source.id]);
    expect(await search(deps, source.name, { text: '7' })).toEqual({ results: [], epoch: 0, space: null });
    await db.query('DELETE FROM freshvec.source WHERE id = $1', [source.id]);
    await expect(search(deps, source.name, { text: '7' })).rejects.toMatchObject({ code: 'source_unknown' });
    await addSource(db, { table: 'anew' });
    expect(await search(deps, source.name, { text: '7' })).toEqual({ results: [], epoch: 0, space: null });
  });
}

onPostgres((database, url) => {
  suite(database);

  test.each<Space['store']>(['column', 'table'])(
    'no search fails or mixes models while the pointer goes back and forth without a pause: store %s',
    async (store) => {
      const db = database();
      const { source, a, b } = await moving(db, `busy_${store}`, store);
      const switcher = await openServer(url(), 1);
      let searching = true;
      let switches = 0;
      const switching = (async () => {
        while (searching) await switchTo(switcher, switches++ % 2 === 0 ? b : a);
      })();
      const deps = { db, embedQuery, pointers: createPointerCache() };
      const epochs = new Set<number>();
      const one = async (x: number) => {
        const { results, epoch } = await search(deps, source.name, { text: String(x), k: 5 });
        const model = epoch % 2 === 1 ? 'fake/a@4#1' : 'fake/b@4#1';
        expect(results.map((hit) => hit.model)).toEqual(Array(5).fill(model));
        expect(results[0]).toMatchObject({ key: x, distance: expect.closeTo(0, 5) });
        epochs.add(epoch);
      };
      try {
        for (let x = 1; x <= 200 || epochs.size <= 20; x += 4)
          await Promise.all([x, x + 1, x + 2, x + 3].map((i) => one((i % 50) + 1)));
      } finally {
        searching = false;
        await switching;
        await switcher.close();
      }
      expect(epochs.size).toBeGreaterThan(20); // Else nothing was shown.
    },
  );
});
onPglite(suite);
