import { describe, expect, test } from 'vitest';
import type { Metric, Space, VectorType } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import type { SearchRequest } from '../../src/search/request.js';
import { type SearchResult, search } from '../../src/search/search.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, switchTo } from './fixture.js';

/** Rows (x, y) whose vector is [x, y, 1]. */
const VECTOR = `ARRAY[x, y, 1]::real[]`;

function suite(database: () => Database): void {
  const ask = (name: string, request: SearchRequest): Promise<SearchResult> =>
    search(
      {
        db: database(),
        pointers: createPointerCache(),
        embedQuery: async (_spec, text) => Float32Array.from(JSON.parse(text)),
      },
      name,
      request,
    );

  async function points(table: string, rows: number): Promise<void> {
    await database().exec(
      `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, x real, y real, team text, at timestamptz);
       INSERT INTO ${table} SELECT i, 'body ' || i, i, 0, 'team ' || i % 3, '2024-01-01 12:00+02' FROM generate_series(1, ${rows}) i`,
    );
  }

  describe.each<[Space['store'], Metric, VectorType]>([
    ['column', 'cosine', 'vector'],
    ['column', 'l2', 'halfvec'],
    ['column', 'ip', 'vector'],
    ['table', 'cosine', 'halfvec'],
    ['table', 'l2', 'vector'],
    ['table', 'ip', 'halfvec'],
  ])('store %s, metric %s, type %s', (store, metric, type) => {
    const table = `m_${store}_${metric}`;

    test('gives the nearest rows, nearest first, with the distance of the operator', async () => {
      const db = database();
      await points(table, 20);
      const source = await addSource(db, { table });
      const space = await addSpace(db, source, { store, metric, type });
      await switchTo(db, space);
      await embedRows(db, source, space, VECTOR);
      const { results, epoch } = await ask(table, { text: '[3, 0, 1]', k: 3 });
      expect(epoch).toBe(1);
      const distances = {
        cosine: (x: number) => 1 - (3 * x + 1) / (Math.hypot(3, 1) * Math.hypot(x, 1)),
        l2: (x: number) => Math.abs(x - 3),
        ip: (x: number) => -(3 * x + 1),
      };
      const distance = distances[metric];
      const ids = Array.from({ length: 20 }, (_, i) => i + 1).sort((a, b) => distance(a) - distance(b));
      expect(results.map(({ distance }) => distance)).toEqual(
        ids.slice(0, 3).map((id) => expect.closeTo(distance(id), 3)),
      );
      expect(results[0]).toEqual({
        key: ids[0],
        distance: results[0]?.distance,
        stale: false,
        model: 'fake/a@3#1',
        row: {
          id: ids[0],
          body: `body ${ids[0]}`,
          x: ids[0],
          y: 0,
          team: `team ${(ids[0] ?? 0) % 3}`,
          at: new Date('2024-01-01T10:00:00Z'),
        },
      });
      expect((await ask(table, { vector: [3, 0, 1], k: 3 })).results).toEqual(results);
    });
  });

  describe.each<Space['store']>(['column', 'table'])('store %s', (store) => {
    test('says which hits are stale, and forgets rows without text', async () => {
      const db = database();
      const table = `stale_${store}`;
      await points(table, 5);
      const source = await addSource(db, { table, filter: `team <> 'hidden'` });
      const space = await addSpace(db, source, { store, metric: 'l2' });
      await switchTo(db, space);
      await embedRows(db, source, space, VECTOR);
      await db.exec(
        `UPDATE ${table} SET body = 'edited' WHERE id = 2; UPDATE ${table} SET body = NULL WHERE id = 3;
         UPDATE ${table} SET team = 'hidden' WHERE id = 4; DELETE FROM ${table} WHERE id = 5`,
      );
      const { results } = await ask(table, { text: '[1, 0, 1]' });
      expect(results.map(({ key, stale }) => [key, stale])).toEqual([
        [1, false],
        [2, true],
        [3, true],
      ]);
    });

    test('never shows vectors of another model that were left behind', async () => {
      const db = database();
      const table = `left_${store}`;
      await points(table, 4);
      const source = await addSource(db, { table });
      const space = await addSpace(db, source, { store, metric: 'l2' });
      await switchTo(db, space);
      await embedRows(db, source, { ...space, fingerprint: 'fake/former@3#1' }, VECTOR);
      expect((await ask(table, { text: '[1, 0, 1]' })).results).toEqual([]);
    });

    test('leaves vectors without a direction out', async () => {
      const db = database();
      const table = `zero_${store}`;
      await points(table, 4);
      const source = await addSource(db, { table });
      const space = await addSpace(db, source, { store });
      await switchTo(db, space);
      await embedRows(db, source, space, `CASE WHEN id = 2 THEN ARRAY[0, 0, 0] ELSE ARRAY[x, y, 1] END::real[]`);
      expect((await ask(table, { text: '[1, 0, 1]' })).results.map(({ key }) => key)).toEqual([1, 3, 4]);
      expect((await ask(table, { text: '[0, 0, 0]' })).results).toEqual([]);
    });

    test('gives a composite key as an object, and whole numbers that JavaScript cannot hold as text', async () => {
      const db = database();
      const table = `Composite "${store}"`;
      const quoted = `"Composite ""${store}"""`;
      await db.exec(
        `CREATE DOMAIN huge_${store} AS bigint;
         CREATE TABLE ${quoted} ("Org id" uuid, "no." int, "from" date, x real, y real, "the ""body""" text,
           big huge_${store} DEFAULT 9007199254740993, many bigint[] DEFAULT '{1,9007199254740993}',
           PRIMARY KEY ("Org id", "no.", "from"));
         INSERT INTO ${quoted} SELECT '00000000-0000-0000-0000-000000000001', i, '2024-02-03', i, 0, 'it''s \\' || i
         FROM generate_series(1, 3) i`,
      );
      const source = await addSource(db, {
        name: `awkward; "${store}"`,
        table,
        key: [
          { name: 'Org id', type: 'uuid' },
          { name: 'no.', type: 'integer' },
          { name: 'from', type: 'date' },
        ],
        content: { sql: `"Composite ""${store}"""."the ""body""" || ' \\ ' || "no."` },
      });
      const space = await addSpace(db, source, { store, metric: 'l2', column: 'my "vector"' });
      await switchTo(db, space);
      await embedRows(db, source, space, VECTOR);
      const { results } = await ask(`awkward; "${store}"`, { text: '[2, 0, 1]', k: 1, where: { 'no.': { lt: 3 } } });
      expect(results).toEqual([
        {
          key: { 'Org id': '00000000-0000-0000-0000-000000000001', 'no.': 2, from: '2024-02-03' },
          distance: 0,
          stale: false,
          model: 'fake/a@3#1',
          row: {
            'Org id': '00000000-0000-0000-0000-000000000001',
            'no.': 2,
            from: '2024-02-03',
            x: 2,
            y: 0,
            'the "body"': "it's \\2",
            big: '9007199254740993',
            many: [1, '9007199254740993'],
          },
        },
      ]);
    });
  });

  test('hides what freshvec added for another source on the same table', async () => {
    const db = database();
    await points('shared', 2);
    const one = await addSource(db, { table: 'shared', name: 'shared one' });
    const two = await addSource(db, { table: 'shared', name: 'shared two', content: { columns: ['team'] } });
    const first = await addSpace(db, one, { column: 'embedding' });
    await addSpace(db, two, { column: 'other' });
    await switchTo(db, first);
    await embedRows(db, one, first, VECTOR);
    const { results } = await ask('shared one', { text: '[1, 0, 1]' });
    expect(Object.keys(results[0]?.row ?? {})).toEqual(['id', 'body', 'x', 'y', 'team', 'at']);
  });

  test('is empty while the source has no vectors, or no live space yet', async () => {
    const db = database();
    await points('loading', 2);
    const source = await addSource(db, { table: 'loading' });
    expect(await ask('loading', { text: '[1, 0, 1]' })).toEqual({ results: [], epoch: 0, space: null });
    await switchTo(db, await addSpace(db, source));
    expect(await ask('loading', { text: '[1, 0, 1]' })).toMatchObject({
      results: [],
      epoch: 1,
      space: expect.any(Number),
    });
  });

  describe('filters', () => {
    let made: Promise<void> | undefined;
    async function make(): Promise<void> {
      const db = database();
      await db.exec(
        `CREATE TABLE f (id bigint PRIMARY KEY, body text, x real, y real, n int, "Odd; name" text, org uuid, ok boolean,
           at timestamptz, price numeric, tags jsonb);
         INSERT INTO f SELECT i, 'b' || i, i, 0, NULLIF(i, 3), 'v' || i, ('00000000-0000-0000-0000-00000000000' || i % 2)::uuid,
           i % 2 = 0, timestamptz '2024-01-01 00:00Z' + i * interval '1 day', i + 0.5, '{}' FROM generate_series(1, 6) i`,
      );
      const source = await addSource(db, { table: 'f', tenantColumn: 'org' });
      const space = await addSpace(db, source, { metric: 'l2' });
      await switchTo(db, space);
      await embedRows(db, source, space, VECTOR);
    }
    const keys = async (where: SearchRequest['where'], tenant?: string): Promise<unknown[]> => {
      made ??= make();
      await made;
      const request = { text: '[0, 0, 1]', ...(where && { where }), ...(tenant && { tenant }) };
      return (await ask('f', request)).results.map(({ key }) => key);
    };

    test.each<[string, SearchRequest['where'], number[]]>([
      ['a value', { n: 2 }, [2]],
      ['eq and ne', { n: { ne: 2 }, id: { lt: 5 } }, [1, 4]],
      ['several operators in one object', { n: { gt: 1, lte: 5 } }, [2, 4, 5]],
      ['a fraction against whole numbers', { n: { gte: 3.5 }, id: { in: [4.5, 4, 5] } }, [4, 5]],
      ['in', { 'Odd; name': { in: ['v1', 'v6', `x'","{}\\`] } }, [1, 6]],
      ['in nothing', { n: { in: [] } }, []],
      ['isNull', { n: { isNull: true } }, [3]],
      ['not isNull', { n: { isNull: false } }, [1, 2, 4, 5, 6]],
      ['like', { body: { like: '%4' } }, [4]],
      ['boolean', { ok: true }, [2, 4, 6]],
      ['date', { at: { gt: new Date('2024-01-05T12:00:00Z') } }, [5, 6]],
      ['numeric and bigint', { price: 2.5, id: 2n }, [2]],
    ])('%s', async (_name, where, expected) => {
      expect(await keys(where)).toEqual(expected);
    });

    test('tenant', async () => {
      expect(await keys(undefined, '00000000-0000-0000-0000-000000000001')).toEqual([1, 3, 5]);
      expect(await keys({ n: 5 }, '00000000-0000-0000-0000-000000000000')).toEqual([]);
    });

    test.each([[`x' OR '1'='1`], [`'); DROP TABLE f; --`], [`$1`], [`\\'; SELECT pg_sleep(10)`], [`%`]])(
      'a value is never SQL: %s',
      async (value) => {
        expect(await keys({ 'Odd; name': value })).toEqual([]);
        expect(await keys({ body: { in: [value] } })).toEqual([]);
        expect(await keys({ 'Odd; name': { isNull: false } })).toHaveLength(6);
      },
    );

    test.each<[string, unknown, string, RegExp]>([
      ['an unknown column', { prise: 1 }, 'filter_unknown_column', /Did you mean "price"\?/],
      ['SQL as a column', { 'n = 1 OR true --': 1 }, 'filter_unknown_column', /no column/],
      ['an unknown operator', { n: { gtt: 1 } }, 'filter_invalid', /Did you mean "gt"\?/],
      ['SQL as an operator', { n: { '> 0 OR 1 =': 1 } }, 'filter_invalid', /does not exist/],
      ['an operator of Object', { n: { constructor: 1 } }, 'filter_invalid', /does not exist/],
      ['null', { n: null }, 'filter_invalid', /isNull/],
      ['no operator', { n: {} }, 'filter_invalid', /empty/],
      ['an object as a value', { n: { eq: { x: 1 } } }, 'filter_invalid', /needs/],
      ['a value of another type', { n: 'one' }, 'filter_invalid', /integer/],
      ['an operator that the type has not', { tags: { like: 'x' } }, 'filter_invalid', /operator does not exist/],
    ])('refuses %s', async (_name, where, code, message) => {
      await expect(keys(where as SearchRequest['where'])).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    });
  });

  test.each<[string, SearchRequest, string, RegExp]>([
    ['neither text nor vector', {}, 'search_request_invalid', /either/],
    ['both', { text: 'a', vector: [1] }, 'search_request_invalid', /not both/],
    ['a blank text', { text: ' \n' }, 'search_request_invalid', /blank/],
    ['an empty vector', { vector: [] }, 'search_request_invalid', /empty/],
    ['a vector with NaN', { vector: [1, Number.NaN, 1] }, 'search_request_invalid', /finite/],
    ['a vector too big for 32 bits', { vector: [1, 1e300, 1] }, 'search_request_invalid', /finite/],
    ['k = 0', { text: 'a', k: 0 }, 'search_request_invalid', /1 to 1000/],
    ['k = 1001', { text: 'a', k: 1001 }, 'search_request_invalid', /1 to 1000/],
    ['efSearch = 1.5', { text: 'a', efSearch: 1.5 }, 'search_request_invalid', /whole/],
    ['another dimension', { vector: [1, 2] }, 'search_dimensions', /2 dimensions.* 3 /],
    ['a vector of another model', { vector: [1, 2, 3], model: 'fake/b@3#1' }, 'search_model_changed', /fake\/b@3#1/],
    [
      'a tenant that is not known',
      { vector: [1, 2, 3], tenant: undefined as never },
      'search_request_invalid',
      /all tenants/,
    ],
    ['a tenant where there is none', { vector: [1, 2, 3], tenant: 'x' }, 'tenant_not_supported', /tenant column/],
  ])('refuses %s', async (_name, request, code, message) => {
    const db = database();
    if ((await db.query(`SELECT FROM freshvec.source WHERE name = 'checks'`)).length === 0) {
      await points('checks', 1);
      await switchTo(db, await addSpace(db, await addSource(db, { table: 'checks' })));
    }
    await expect(ask('checks', request)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('an unknown source is named, with those that exist', async () => {
    await expect(ask('nothing', { text: '[1]' })).rejects.toMatchObject({ code: 'source_unknown' });
  });
}

onPostgres(suite);
onPglite(suite);
