import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bootstrap, meanOf, quantile, scoreAnswers } from '../../src/reembed/eval/measures.js';
import { parseQueries } from '../../src/reembed/eval/queries.js';
import { seededRandom, shuffled } from '../../src/reembed/eval/random.js';
import { histogram } from '../../src/reembed/eval/report.js';

const set = (...keys: string[]) => new Set(keys);

describe('recall and nDCG, by hand', () => {
  test.each([
    // Relevant at ranks 1 and 3 of 2: (1 + 1/2) / (1 + 1/log2(3)).
    [['a', 'x', 'b'], set('a', 'b'), 10, 1, 1.5 / (1 + 1 / Math.log2(3))],
    // At rank 4: 1/log2(5).
    [['x', 'y', 'z', 'a'], set('a'), 10, 1, 1 / Math.log2(5)],
    [['x', 'y', 'z', 'a'], set('a'), 3, 0, 0],
    [['a', 'b', 'c'], set('a', 'b', 'c'), 10, 1, 1],
    // More are relevant than fit: two of two can be found.
    [['a', 'b'], set('a', 'b', 'c'), 2, 1, 1],
    [['a', 'x'], set('a', 'b', 'c'), 2, 0.5, 1 / (1 + 1 / Math.log2(3))],
    // A key counts once.
    [['a', 'a', 'a'], set('a', 'b'), 10, 0.5, 1 / (1 + 1 / Math.log2(3))],
    [[], set('a'), 10, 0, 0],
  ])('%j of %j at %i', (answers, relevant, k, recall, ndcg) => {
    const scores = scoreAnswers(answers, relevant, k);
    expect(scores.recall).toBeCloseTo(recall, 12);
    expect(scores.ndcg).toBeCloseTo(ndcg, 12);
  });

  test('between 0 and 1, and best in the best order', () => {
    const keys = fc.uniqueArray(fc.integer({ min: 0, max: 30 }).map(String), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(keys, keys, fc.integer({ min: 1, max: 12 }), (answers, relevant, k) => {
        const wanted = new Set(relevant);
        const scores = scoreAnswers(answers, wanted, k);
        const sorted = [...answers].sort((a, b) => Number(wanted.has(b)) - Number(wanted.has(a)));
        const best = scoreAnswers(sorted, wanted, k);
        for (const value of [scores.recall, scores.ndcg, best.ndcg]) expect(value).toBeGreaterThanOrEqual(0);
        expect(best.ndcg).toBeLessThanOrEqual(1 + 1e-12);
        expect(scores.ndcg).toBeLessThanOrEqual(best.ndcg + 1e-12);
        expect(scores.recall).toBeLessThanOrEqual(best.recall);
      }),
    );
  });
});

describe('bootstrap', () => {
  test('is that of the normal approximation for many values', () => {
    const random = seededRandom(7);
    const values = Array.from({ length: 4000 }, () => random());
    const { mean, low, high } = bootstrap(values, 3);
    expect(mean).toBeCloseTo(meanOf(values), 12);
    // Uniform: the standard error is sqrt(1/12 / 4000).
    const error = Math.sqrt(1 / 12 / 4000);
    expect((mean - low) / error).toBeGreaterThan(1.96 * 0.9);
    expect((mean - low) / error).toBeLessThan(1.96 * 1.1);
    expect((high - mean) / error).toBeGreaterThan(1.96 * 0.9);
    expect((high - mean) / error).toBeLessThan(1.96 * 1.1);
  });

  test('holds the true mean about 95 times of 100', () => {
    const random = seededRandom(11);
    let held = 0;
    for (let i = 0; i < 200; i++) {
      const { low, high } = bootstrap(
        Array.from({ length: 40 }, () => random()),
        i,
      );
      if (low <= 0.5 && 0.5 <= high) held += 1;
    }
    expect(held).toBeGreaterThan(180);
    expect(held).toBeLessThan(199);
  });

  test('the seed decides it; equal values leave no doubt; no values leave none but', () => {
    const values = [0, 1, 0.5, 0.25, 1, 0];
    expect(bootstrap(values, 5)).toEqual(bootstrap(values, 5));
    expect(bootstrap(values, 5)).not.toEqual(bootstrap(values, 6));
    expect(bootstrap([0.25, 0.25, 0.25])).toEqual({ mean: 0.25, low: 0.25, high: 0.25 });
    expect(bootstrap([])).toEqual({ mean: Number.NaN, low: Number.NaN, high: Number.NaN });
  });

  test('quantiles are linear between values', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([1, 2, 3, 4, 5], 0.95)).toBeCloseTo(4.8, 12);
    expect(quantile([7], 0.3)).toBe(7);
    expect(quantile([], 0.5)).toBeNaN();
  });

  test('random numbers are even, and shuffling keeps every item', () => {
    const random = seededRandom(1);
    const counts = histogram(Array.from({ length: 20_000 }, random), 10).counts;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
    const items = Array.from({ length: 50 }, (_, i) => i);
    const order = shuffled(items, seededRandom(2));
    expect(order).not.toEqual(items);
    expect([...order].sort((a, b) => a - b)).toEqual(items);
  });
});

test('histograms count every value', () => {
  expect(histogram([0, 0.1, 0.5, 0.99, 1], 4)).toEqual({ low: 0, high: 1, counts: [2, 0, 1, 2] });
  expect(histogram([3, 3], 2)).toEqual({ low: 3, high: 3, counts: [2, 0] });
  expect(histogram([], 2)).toEqual({ low: 0, high: 0, counts: [0, 0] });
});

describe('files of queries', () => {
  test('an array, or a line each', () => {
    const wanted = [
      { query: 'one', relevant: ['1', '2'] },
      { query: 'two', relevant: ['["a","7"]'] },
      { query: 'two', tenant: '7', relevant: ['3'] },
    ];
    const entries = [
      '{"query": "one", "relevant": [1, "2"]}',
      '{"query": "two", "relevant": [["a", 7]]}',
      '{"query": "two", "tenant": 7, "relevant": [3]}',
    ];
    expect(parseQueries(`[${entries.join(',\n')}]`)).toEqual(wanted);
    expect(parseQueries(`\uFEFF${entries.join('\r\n')}\n\n`)).toEqual(wanted);
    expect(parseQueries(`${entries[0]}\n{"query":"one","relevant":["2","3"]}`)).toEqual([
      { query: 'one', relevant: ['1', '2', '3'] },
    ]);
    expect(parseQueries(`${entries[2]}\n{"tenant":"7","query":"two","relevant":["4"]}`)).toEqual([
      { query: 'two', tenant: '7', relevant: ['3', '4'] },
    ]);
  });

  test.each([
    ['', /empty: write one/],
    ['[]', /empty/],
    ['{"query": "a", "relevant": ["1"]}\n{"query": "b"', /^Line 2 of the queries is not JSON \(.+\): write \{"query"/],
    ['[\n{"query": "a", "relevant": ["1"]},\n{"query": }]', /^Line 3 of the queries is not JSON/],
    ['{"query": "a", "relevant": ["1"]}\n"b"', /^Line 2 of the queries is no object/],
    ['[{"query": "a", "relevant": ["1"]}, 7]', /^Entry 2 of the queries is no object/],
    ['{"query": " ", "relevant": ["1"]}', /^Line 1 of the queries has no text in "query"/],
    ['{"relevant": ["1"]}', /no text in "query"/],
    ['{"query": "a"}', /names no keys in "relevant"/],
    ['{"query": "a", "relevant": []}', /names no keys/],
    ['{"query": "a", "relevant": "1"}', /names no keys/],
    ['{"query": "a", "relevant": [1.5]}', /has the key 1.5: a key is a text or a whole number/],
    ['{"query": "a", "relevant": [null]}', /has the key null/],
    ['{"query": "a", "relevant": [9007199254740993]}', /over 2\^53 as text/],
    [
      '{"query": "a", "relevant": ["1"], "tenant": ""}',
      /has the tenant "": a tenant is a text or a whole number; leave/,
    ],
    ['{"query": "a", "relevant": ["1"], "tenant": null}', /has the tenant null/],
    ['{"query": "a", "relevants": ["1"]}', /has "relevants", which means nothing here/],
    ['query,relevant\na,1', /^Line 1 of the queries is not JSON/],
  ])('%j is refused', (text, message) => {
    expect(() => parseQueries(text)).toThrow(message);
    expect(() => parseQueries(text)).toThrow(expect.objectContaining({ code: 'queries_invalid' }));
  });
});
