import { expect, test } from 'vitest';
import { openGate, type Priority } from '../../src/embed/gate.js';

test('of a model in this process an edit waits behind no more than one request that is none, and a query behind nobody', async () => {
  const gate = openGate();
  const order: Priority[] = [];
  const run = (priority: Priority) =>
    gate.run({ tokens: 1, mostTokens: 1, texts: 1, priority }, async () => {
      await new Promise((resolve) => setImmediate(resolve));
      order.push(priority);
      return { vectors: [], tokens: 1 };
    });
  const backfill = [run('load'), run('load'), run('bulk')];
  await Promise.resolve().then(() => {}); // The first is under way.
  await Promise.all([...backfill, run('interactive'), run('interactive'), run('query')]);
  expect(order.indexOf('query')).toBeLessThanOrEqual(1);
  expect(order.filter((priority) => priority !== 'query')).toEqual([
    'load',
    'interactive',
    'interactive',
    'load',
    'bulk',
  ]);
});
