import { expect, test } from 'vitest';
import { backfillHotShare } from '../../src/reembed/plan/hot.js';

/** `full`: with the pages filled to 100 %; `half`: to 50 %. */
test.each([
  { what: 'no vector index', indexes: [], rowBefore: 200, rowAfter: 200, full: 0, half: 1 },
  { what: 'many rows a page', indexes: ['i'], rowBefore: 200, rowAfter: 200, full: 7 / 8, half: 1 },
  { what: 'four rows a page', indexes: ['i'], rowBefore: 1800, rowAfter: 1800, full: 3 / 4, half: 1 },
  {
    what: 'five rows a page that grow a little',
    indexes: ['i'],
    rowBefore: 1600,
    rowAfter: 1616,
    full: 3 / 5,
    half: 1,
  },
  { what: 'rows that grow to their double', indexes: ['i'], rowBefore: 200, rowAfter: 400, full: 1 / 2, half: 1 },
])('how much of a backfill stays on its pages: $what', ({ indexes, full, half, ...sizes }) => {
  const pages = { table: { vectorIndexes: indexes }, sizes };
  expect(backfillHotShare(pages, 100)).toBeCloseTo(full, 6);
  expect(backfillHotShare(pages, 50)).toBeCloseTo(half, 6);
});
