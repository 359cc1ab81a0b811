import { beforeAll, describe, expect, test } from 'vitest';
import type { Metric, Space, VectorType } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { guardedStatement } from '../../src/search/guarded.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import type { SearchRequest } from '../../src/search/request.js';
import { search } from '../../src/search/search.js';
import { readTarget } from '../../src/search/target.js';
import { vectorTable } from '../../src/store/table.js';
import { addSource, addSpace, embedRows, onPostgres, switchTo } from './fixture.js';

const DIMENSIONS = 64;
const ROWS = 5000;
const OPS: Readonly<Record<Metric, string>> = { cosine: 'cosine_ops', l2: 'l2_ops', ip: 'ip_ops' };

onPostgres((database) => {
  describe.each<[Space['store'], Metric, VectorType]>([
    ['column', 'cosine', 'vector'],
    ['column', 'ip', 'halfvec'],
    ['table', 'l2', 'vector'],
    ['table', 'cosine', 'halfvec'],
  ])('store %s, metric %s, type %s, 5,000 rows with an HNSW index', (store, metric, type) => {
    const table = `big_${store}_${metric}`;
    const query = Float32Array.from({ length: DIMENSIONS }, (_, i) => Math.sin(i + 1));
    let db: Database;
    let index: string;

    beforeAll(async () => {
      db = database();
      await db.exec(
        `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, team int);
         INSERT INTO ${table} SELECT i, repeat('body ' || i || ' ', 20), i % 20 FROM generate_series(1, ${ROWS}) i`,
      );
      const source = await addSource(db, { table, filter: 'id > 0' });
      const space = await addSpace(db, source, { store, metric, type, dimensions: DIMENSIONS });
      await switchTo(db, space);
      await embedRows(
        db,
        source,
        space,
        `SELECT array_agg(sin(i * (1 + id % 97) + id)::real ORDER BY i) FROM generate_series(1, ${DIMENSIONS}) i`,
      );
      index = `${table}_hnsw`;
      const relation = store === 'column' ? table : vectorTable(space);
      await db.query(`CREATE INDEX ${index} ON ${relation} USING hnsw (embedding ${type}_${OPS[metric]})`);
      await db.exec(`ANALYZE ${table}; ANALYZE ${relation}`);
    });

    const explain = async (request: SearchRequest, epoch?: number): Promise<string> => {
      const target = await readTarget(db, table);
      if (!target) throw new Error('no target');
      const { text, params } = guardedStatement(
        { ...target, epoch: epoch ?? target.epoch },
        'public',
        query,
        10,
        request,
      );
      const lines = await db.query<{ 'QUERY PLAN': string }>(
        `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) ${text}`,
        params,
      );
      return lines.map((line) => line['QUERY PLAN']).join('\n');
    };

    test.each<[string, SearchRequest]>([
      ['without a filter', { text: 'x' }],
      ['with a filter', { text: 'x', where: { team: { gt: 4 } } }],
    ])('the guarded statement uses the index %s', async (_name, request) => {
      const plan = await explain(request);
      expect(plan).toContain(`Index Scan using ${index}`);
      expect(plan).not.toContain(`Seq Scan on ${table}`);
    });

    test('a mismatch reads no vector', async () => {
      const plan = await explain({ text: 'x' }, 99);
      expect(plan).toMatch(/One-Time Filter/);
      expect(plan).toMatch(new RegExp(`Index Scan using ${index}[^\\n]*never executed`));
    });

    test('a filter that few rows pass still gives k hits, in the right order', async () => {
      const deps = { db, embedQuery: async () => query, pointers: createPointerCache() };
      const { results } = await search(deps, table, { text: 'x', k: 10, where: { team: 7 } });
      expect(results).toHaveLength(10);
      const distances = results.map(({ distance }) => distance);
      expect(distances).toEqual([...distances].sort((a, b) => a - b));
      for (const hit of results) expect(hit).toMatchObject({ stale: false, row: { team: 7 } });
    });

    test('k may be as large as 1000', async () => {
      const deps = { db, embedQuery: async () => query, pointers: createPointerCache() };
      expect((await search(deps, table, { text: 'x', k: 1000 })).results).toHaveLength(1000);
    });
  });
});
