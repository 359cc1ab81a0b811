import { describe, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import { deriveQueries } from '../../src/reembed/compare/derived-queries.js';
import { collectionOf, nearest } from '../../src/reembed/compare/exact.js';
import { estimateStorage } from '../../src/reembed/compare/storage.js';
import { renderComparison, renderCosts } from '../../src/reembed/compare/text.js';
import { compareModels, estimateComparison } from '../../src/reembed/compare.js';
import { toastBytesPerValue, vectorBytes } from '../../src/reembed/plan/heap-layout.js';
import { hnswBytes } from '../../src/reembed/plan/hnsw-layout.js';
import { onPostgres } from '../search/fixture.js';
import { eventually } from '../support/eventually.js';
import { contextOf, onBoth, textOf, twoSpaces } from './two-spaces.js';

describe('derived queries', () => {
  const texts = [
    { key: 'a', text: 'The harbour opens at dawn. Boats leave one after the other!' },
    { key: 'b', text: 'the  HARBOUR opens at dawn.\nNobody knows why it closes.' },
    { key: 'c', text: 'one two three four five six seven' },
    { key: 'd', text: 'too short' },
    { key: 'e', text: 'one two three four five six seven' },
  ];

  test('come from the rows, whose every like is relevant', () => {
    const queries = deriveQueries(texts, 10, 1);
    const found = new Map(queries.map(({ query, relevant }) => [query, [...relevant].sort().join('')]));
    expect(found.get('one three five seven')).toBe('ce');
    expect(queries.length).toBe(3);
    for (const [query, keys] of found) {
      if (/harbour/i.test(query)) expect(keys).toBe('ab');
      if (/boats/i.test(query)) expect(keys).toBe('a');
      if (/nobody/i.test(query)) expect(keys).toBe('b');
    }
  });

  test('the seed decides which, and no more than asked for', () => {
    const many = Array.from({ length: 60 }, (_, i) => ({ key: String(i), text: `${textOf(i)} ${textOf(i + 100)}` }));
    const queries = deriveQueries(many, 20, 1);
    expect(queries).toHaveLength(20);
    expect(deriveQueries(many, 20, 1)).toEqual(queries);
    expect(deriveQueries(many, 20, 2)).not.toEqual(queries);
    expect(deriveQueries([{ key: 'd', text: 'too short' }], 20, 1)).toEqual([]);
  });
});

test('exact search orders as each metric does', () => {
  const vectors = { long: [4, 0], near: [1, 0.5], away: [-1, 0], twin: [1, 0.5] };
  const collection = collectionOf(
    Object.entries(vectors).map(([key, vector]) => ({ key, vector: Float32Array.from(vector) })),
  );
  const query = Float32Array.from([1, 0]);
  expect(nearest(collection, query, 4, 'cosine')).toEqual(['long', 'near', 'twin', 'away']);
  expect(nearest(collection, query, 4, 'l2')).toEqual(['near', 'twin', 'away', 'long']);
  expect(nearest(collection, query, 2, 'ip')).toEqual(['long', 'near']);
});

onPostgres((database) => {
  test.each([
    ['vector', 128],
    ['vector', 384],
    ['vector', 768],
    ['vector', 1024],
    ['vector', 1536],
    ['vector', 2000],
    ['halfvec', 256],
  ] as const)('the estimate of storage is what PostgreSQL takes: %s(%i)', async (type, dimensions) => {
    const db = database();
    const rows = 1000;
    const table = `s_${type}_${dimensions}`;
    await db.exec(
      `CREATE TABLE ${table} (v ${type}(${dimensions}));
       ALTER TABLE ${table} ALTER v SET STORAGE EXTERNAL;
       INSERT INTO ${table} SELECT (SELECT array_agg((hashint8(i * 10000 + d)::float8 / 2147483648)::real)
         FROM generate_series(1, ${dimensions}) d)::${type} FROM generate_series(1, ${rows}) i;
       CREATE INDEX ${table}_ix ON ${table} USING hnsw (v ${type}_cosine_ops)`,
    );
    const [size] = await db.query<{ table: number; index: number }>(
      `SELECT pg_table_size($1::text::regclass) AS table, pg_relation_size($2::text::regclass) AS index`,
      [table, `${table}_ix`],
    );
    const estimate = estimateStorage(type, dimensions, rows);
    expect((estimate.indexBytes ?? 0) / (size?.index ?? 0)).toBeGreaterThan(0.9);
    expect((estimate.indexBytes ?? 0) / (size?.index ?? 0)).toBeLessThan(1.1);
    // The table has row headers besides, and pages that its rows do not fill; the estimate the model and hash.
    expect(estimate.vectorBytes / (size?.table ?? 0)).toBeGreaterThan(0.9);
    expect(estimate.vectorBytes / (size?.table ?? 0)).toBeLessThan(1.25);
  });

  test.each([
    ['vector', 768],
    ['vector', 1536],
    ['vector', 2000],
    ['halfvec', 3950],
  ] as const)('the estimate of storage is that of a plan: %s(%i)', (type, dimensions) => {
    const estimate = estimateStorage(type, dimensions, 1000);
    const index = { kind: 'hnsw', m: 16, efConstruction: 64 } as const;
    expect(estimate.indexBytes).toBe(hnswBytes({ type, dimensions, index }, 1000));
    const outOfLine = 1000 * toastBytesPerValue(vectorBytes({ type, dimensions }));
    // Besides there are a pointer, the model and the hash.
    expect(estimate.vectorBytes - outOfLine).toBeCloseTo(1000 * (18 + 56), 3);
  });

  test('what pgvector cannot index has no index to estimate', () => {
    expect(estimateStorage('vector', 2001, 1).indexBytes).toBeUndefined();
    expect(estimateStorage('halfvec', 3072, 1).indexBytes).toBeGreaterThan(0);
  });
});

onBoth((fixture) => {
  test('compares models on a sample, and writes nothing but what was charged', async () => {
    const { db, budget } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'cmp', rows: 120, indexed: false });
    const written = async () => ({
      rows: await db.query('SELECT xmin::text, ctid::text FROM cmp ORDER BY id'),
      spend: await db.query<{ texts: number }>(
        `SELECT xmin::text, s.* FROM freshvec.spend s WHERE source = 'cmp' ORDER BY s`,
      ),
    });
    // The worker writes its own down a little later.
    const texts = async () => (await written()).spend.reduce((sum, row) => sum + row.texts, 0);
    await eventually(async () => (await texts()) === 240, { what: 'what the rows took' });
    const before = await written();
    const context = { ...contextOf(fixture(), spaces), budget, prices: { prices: { 'static/mini@256': 10 } } };
    const options = { models: ['static/mini@128', 'static/mini@256'], sampleRows: 60 };
    const costs = await estimateComparison(context, options);
    expect(costs).toEqual([
      { model: 'static/mini@128', texts: expect.any(Number), tokens: expect.any(Number), usd: 0 },
      { model: 'static/mini@256', texts: expect.any(Number), tokens: expect.any(Number), usd: expect.any(Number) },
    ]);
    expect(costs[1]?.usd).toBeCloseTo(((costs[1]?.tokens ?? 0) * 10) / 1e6, 12);

    const comparison = await compareModels(context, options);
    expect(comparison).toMatchObject({ source: 'cmp', k: 10, metric: 'cosine', rows: 60, unknownKeys: [] });
    expect(comparison.how).toMatch(/^\d+ derived queries: one sentence of a row/);
    const [first, second] = comparison.models;
    expect(first).toMatchObject({
      model: 'static/mini@128',
      dimensions: 128,
      against: undefined,
      rejected: 0,
      usdPerMillionRows: 0,
    });
    expect(second?.usdPerMillionRows).toBeCloseTo((second?.tokensPerText ?? 0) * 10, 9);
    expect(first?.recall.mean).toBeGreaterThan(0.5);
    expect(second?.against?.recall.mean).toBeCloseTo((second?.recall.mean ?? 0) - (first?.recall.mean ?? 0), 12);
    expect(second?.storage[0]?.vectorBytesPerMillionRows).toBeGreaterThan(
      first?.storage[0]?.vectorBytesPerMillionRows ?? 1e12,
    );
    expect(first?.latency.perText).toBeGreaterThan(0);
    expect(first?.latency.queryP95).toBeGreaterThanOrEqual(first?.latency.queryP50 ?? 1e9);

    const text = renderComparison(comparison);
    expect(text).toMatch(/^cmp: 2 models on 60 sampled rows, exact cosine search; \d+ derived queries/);
    expect(text).toMatch(/static\/mini@256 +vector +1\.\d\d GB +1\.\d\d GB/);
    expect(text).toMatch(/less the first's[\s\S]*static\/mini@256 .*[+−]0\.\d{3} \([+−]0\.\d{3} to [+−]0\.\d{3}\)/);
    expect(text).not.toMatch(/NaN|undefined/);
    expect(renderCosts(costs)).toMatch(/static\/mini@128 +\d+ +[\d,]+ +0\n/);

    // Models that run here charge nothing.
    await budget.flush();
    expect(await written()).toEqual(before);
  });

  test('labelled queries: a model that is no good is told from one that is', async () => {
    const { models } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'cmp_lab', rows: 90, indexed: false });
    const good = await models.get('static/mini@128');
    // It tells odd lengths from even ones, and no more.
    const poor: EmbeddingModel = {
      ...good,
      spec: 'fake/length@2',
      fingerprint: 'fake/length@2#1',
      dimensions: 2,
      embed: async (texts) => ({
        vectors: texts.map((text) => Float32Array.from([1, text.length % 2])),
        tokens: texts.length,
      }),
    };
    const context = {
      ...contextOf(fixture(), spaces),
      prices: {},
      models: {
        get: async (spec: string) => (spec === poor.spec ? poor : models.get(spec)),
        forSpace: models.forSpace,
      },
    };
    const queries = Array.from({ length: 15 }, (_, i) => ({
      query: textOf(i + 60),
      relevant: [String(i + 60), '4711'],
    }));
    const options = { models: ['static/mini@128', poor.spec], queries, sampleRows: 40 };
    const comparison = await compareModels(context, options);
    expect(comparison).toMatchObject({ queries: 15, how: '15 labelled queries', unknownKeys: ['4711'] });
    // The rows that are relevant are searched among although most are not in the sample.
    expect(comparison.rows).toBeGreaterThan(40);
    expect(comparison.rows).toBeLessThanOrEqual(55);
    const [first, second] = comparison.models;
    expect(first?.recall).toEqual({ mean: 1, low: 1, high: 1 });
    expect(second?.recall.mean).toBeLessThan(0.7);
    expect(second?.against?.recall.high).toBeLessThan(0);
    const [estimated] = await estimateComparison(context, options);
    expect(estimated?.texts).toBe(comparison.rows + 15);
  });

  test('what cannot be compared is refused with what to do', async () => {
    const { db, budget, models } = fixture();
    await db.exec(
      `CREATE TABLE cmp_short (id int PRIMARY KEY, body text); INSERT INTO cmp_short VALUES (1, 'hi'), (2, 'ho')`,
    );
    const { source } = await fixture().add({
      table: 'cmp_short',
      content: { columns: ['body'] },
      model: 'static/mini@128',
      index: 'none',
    });
    const context = { db, source, models, budget, prices: {}, signal: new AbortController().signal };
    const both = ['static/mini@128', 'static/mini@256'];
    const run = (options: Partial<Parameters<typeof compareModels>[1]>) =>
      compareModels(context, { models: both, sampleRows: 10, ...options });
    await expect(run({ models: ['static/mini@128', 'static/mini@128'] })).rejects.toThrow(/name two models or more/);
    await expect(run({})).rejects.toThrow(/no row has six words or more .*--queries FILE/);
    await expect(run({ queries: [{ query: 'a', relevant: ['9'] }] })).rejects.toThrow(/none of the keys/);
    await expect(run({ models: ['static/mini@128', 'openai/x'] })).rejects.toMatchObject({ code: 'model_unknown' });
    // Too short to derive a query from, they can still be asked for.
    expect(await run({ queries: [{ query: 'hi', relevant: ['1'] }] })).toMatchObject({ rows: 2, queries: 1 });
  });

  test('the sample is charged to the source at its price', async () => {
    const { db, models } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'cmp_paid', rows: 30, indexed: false });
    const prices = { prices: { 'static/mini': 10 } };
    const budget = createGates(db, prices, () => {});
    // As if somebody charged for them.
    for (const spec of ['static/mini@128', 'static/mini@256']) {
      Object.assign(await models.get(spec), { account: 'the key of a test' });
    }
    const context = { ...contextOf(fixture(), spaces), budget, prices, models };
    await compareModels(context, { models: ['static/mini@128', 'static/mini@256'], sampleRows: 30 });
    await budget.flush();
    const spent = await db.query<{ texts: number; tokens: number; nanos: number }>(
      // What the rows themselves took cost nothing.
      `SELECT texts, tokens, nanos FROM freshvec.spend WHERE source = 'cmp_paid' AND nanos > 0`,
    );
    expect(spent).toHaveLength(2);
    for (const { texts, tokens, nanos } of spent) {
      expect(texts).toBeGreaterThanOrEqual(60);
      expect(nanos).toBe(tokens * 10_000);
    }
    await budget.close();
  });
});
