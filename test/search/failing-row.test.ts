import { describe, expect, test } from 'vitest';
import type { Space } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import type { SearchRequest } from '../../src/search/request.js';
import { search } from '../../src/search/search.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, switchTo } from './fixture.js';

/** Rows 1 to 40 at (x, 0), whose content is a number; then row 3 has none that can be had, row 4 is edited. */
async function points(db: Database, store: Space['store'], filter?: string): Promise<Space> {
  const table = `${filter ? 'filtered' : 'failing'}_${store}`;
  await db.exec(
    `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, x real, team text, shown text DEFAULT '1');
     INSERT INTO ${table} SELECT i, i::text, i, 'team ' || i % 2 FROM generate_series(1, 40) i`,
  );
  const source = await addSource(db, {
    table,
    content: { sql: `'n' || ${table}.body::int` },
    ...(filter !== undefined && { filter }),
  });
  const space = await addSpace(db, source, { store, metric: 'l2' });
  await switchTo(db, space);
  await embedRows(db, source, space, 'ARRAY[x, 0, 1]::real[]');
  const relation = store === 'column' ? table : `freshvec.vector_${space.id}`;
  await db.exec(`CREATE INDEX ON ${relation} USING hnsw (embedding vector_l2_ops); ANALYZE ${relation}`);
  return space;
}

function suite(database: () => Database): void {
  const pointers = createPointerCache();
  const found = async (name: string, request: Partial<SearchRequest> = {}) => {
    const { results } = await search(
      { db: database(), pointers, embedQuery: () => Promise.reject(new Error('a vector was given')) },
      name,
      { vector: [1, 0, 1], k: 5, ...request },
    );
    return results.map(({ key, stale }) => [key, stale]);
  };
  const foundBySql = async (name: string, { fingerprint }: Space) => {
    const rows = await database().query<{ key: string; stale: boolean }>(
      `SELECT key, stale FROM freshvec.search($1, $2, '[1,0,1]', 5)`,
      [name, fingerprint],
    );
    return rows.map(({ key, stale }) => [Number(key), stale]);
  };

  describe.each<Space['store']>(['column', 'table'])('store %s', (store) => {
    test('a row on which the content fails is a stale hit, and its neighbours are found beside it', async () => {
      const db = database();
      const name = `failing_${store}`;
      const space = await points(db, store);
      await db.exec(`UPDATE ${name} SET body = 'secret' WHERE id = 3; UPDATE ${name} SET body = '44' WHERE id = 4`);
      const near = [
        [1, false],
        [2, false],
        [3, true],
        [4, true],
        [5, false],
      ];
      expect(await found(name)).toEqual(near);
      expect(await found(name)).toEqual(near);
      expect(await foundBySql(name, space)).toEqual(near);
      expect(await found(name, { space: space.id })).toEqual(near);
      expect(await found(name, { where: { team: 'team 1' } })).toEqual([1, 3, 5, 7, 9].map((id) => [id, id === 3]));
      await expect(found(name, { where: { id: 'secret' } })).rejects.toMatchObject({ code: 'filter_invalid' });
    });

    test('a row on which the filter fails is left out', async () => {
      const db = database();
      const name = `filtered_${store}`;
      const space = await points(db, store, 'shown::int = 1');
      await db.exec(`UPDATE ${name} SET shown = 'secret' WHERE id = 3; UPDATE ${name} SET shown = '0' WHERE id = 4`);
      const near = [1, 2, 5, 6, 7].map((id) => [id, false]);
      expect(await found(name)).toEqual(near);
      expect(await foundBySql(name, space)).toEqual(near);
    });
  });
}

onPostgres(suite);
onPglite(suite);
