import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PgliteDatabase } from '../../src/db/pglite.js';
import { openQueue } from '../../src/queue/open.js';
import { freshEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';

let db: PgliteDatabase;
let errors: Error[];
beforeEach(async () => {
  db = await freshEmbedded();
  errors = [];
});
afterEach(() => db.close());

const open = () => openQueue({ backend: 'pglite', db }, { onError: (error) => errors.push(error) });

test("an app's own tables of BullMQ's names, and its search_path, are not touched", async () => {
  await db.exec('CREATE TABLE public.job (id int); CREATE TABLE public.meta (id int)');
  const [before] = await db.query('SHOW search_path');
  const queue = await open();
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 1 });
  await queue.wake({ spaceId: 1, slot: 0 });
  await eventually(() => handled.length === 1);
  expect(await db.query('SHOW search_path')).toEqual([before]);
  await queue.close();
  expect(await db.query('SELECT count(*)::int AS n FROM job')).toEqual([{ n: 0 }]);
  expect(errors).toEqual([]);
});

test("BullMQ's statements stay out of an open transaction, on the one connection", async () => {
  const queue = await open();
  const handled: number[] = [];
  await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 1 });
  let woken: Promise<boolean> | undefined;
  const failed = db.tx(async (tx) => {
    await tx.query('CREATE TABLE lost ()');
    woken = queue.wake({ spaceId: 1, slot: 0 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    throw new Error('rolled back');
  });
  await expect(failed).rejects.toThrow('rolled back');
  expect(await woken).toBe(true);
  await eventually(() => handled.length === 1);
  await queue.close();
});

test('a database that was closed under the queue is reported, and the queue can still be closed', async () => {
  const queue = await open();
  await queue.work({ drain: async () => undefined }, { concurrency: 2 });
  await db.close();
  expect(await queue.wake({ spaceId: 1, slot: 0 })).toBe(false);
  await new Promise((resolve) => setTimeout(resolve, 200));
  await queue.close();
  expect(errors.map(({ message }) => message)).toContain('PGlite is closed');
});
