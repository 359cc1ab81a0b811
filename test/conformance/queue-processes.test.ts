import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openQueue, type QueueOptions } from '../../src/queue/open.js';
import type { Queue } from '../../src/queue/port.js';
import { freshDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { redisDatabase } from '../support/redisDatabase.js';

interface Place {
  readonly options: QueueOptions;
  drop(): Promise<void>;
}

const places: Record<string, () => Promise<Place>> = {
  async redis() {
    const redis = await redisDatabase();
    return { options: { backend: 'redis', redisUrl: redis.url }, drop: () => redis.drop() };
  },
  async postgres() {
    const database = await freshDatabase();
    return { options: { backend: 'postgres', url: database.url }, drop: () => database.drop() };
  },
};

/** A worker process that has taken one drain. */
async function workerIn(options: QueueOptions, mode: 'hold' | 'once', queue: Queue, spaceId: number) {
  const script = fileURLToPath(new URL('../queue/worker.mjs', import.meta.url));
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const child: ChildProcess = spawn(process.execPath, [script, JSON.stringify(options), mode], { stdio: [...stdio] });
  const exit = once(child, 'exit');
  if (child.stdout === null) throw new Error('no stdout');
  const line = once(createInterface({ input: child.stdout }), 'line');
  await queue.wake({ spaceId, slot: 0 });
  expect(JSON.parse(String(await line))).toEqual({ spaceId, slot: 0 });
  return { child, exit };
}

describe.each(Object.entries(places))('worker processes on %s', (_, make) => {
  let place: Place;
  let queue: Queue;
  beforeAll(async () => {
    place = await make();
    queue = await openQueue(place.options, { onError: (error) => console.error(error) });
  });
  afterAll(async () => {
    await queue.close();
    await place.drop();
  });

  test('a process whose queue was closed ends by itself', async () => {
    const { child, exit } = await workerIn(place.options, 'once', queue, 1);
    const slow = setTimeout(() => child.kill('SIGKILL'), 8_000);
    expect(await exit).toEqual([0, null]);
    clearTimeout(slow);
  });

  test("a killed worker's drain is taken by another within 17 s, a wake for it too", async () => {
    const { child, exit } = await workerIn(place.options, 'hold', queue, 2);
    child.kill('SIGKILL');
    await exit;
    const start = performance.now();
    const handled: number[] = [];
    await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 1 });
    expect(await queue.wake({ spaceId: 2, slot: 0 })).toBe(true);
    await eventually(() => handled.includes(2), { what: "the dead worker's drain", timeoutMs: 20_000 });
    expect(performance.now() - start).toBeLessThan(17_000);
  });
});
