import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openQueue } from '../../src/queue/open.js';
import type { MaintenanceService, Queue } from '../../src/queue/port.js';
import { eventually } from '../support/eventually.js';
import { type RedisServer, startRedis } from '../support/servers.js';

/** `wake` promises an answer within this. */
const WAKE_MS = 1_500;

let redis: RedisServer;
let errors: Error[];
const queues: Queue[] = [];
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(() => {
  errors = [];
});
afterEach(async () => {
  if (redis.pid === undefined) await redis.up();
  for (const queue of queues.splice(0)) await queue.close();
});

async function open(): Promise<Queue> {
  const queue = await openQueue({ backend: 'redis', redisUrl: redis.url }, { onError: (error) => errors.push(error) });
  queues.push(queue);
  return queue;
}

async function timedWake(queue: Queue, spaceId: number): Promise<{ woke: boolean; ms: number }> {
  const start = performance.now();
  const woke = await queue.wake({ spaceId, slot: 0 });
  return { woke, ms: performance.now() - start };
}

/** A wake-up may be lost while Redis is lost; a later one must come through. */
async function wakeUntilHandled(queue: Queue, spaceId: number, handled: readonly number[]): Promise<void> {
  const wakes = async () => {
    await queue.wake({ spaceId, slot: 0 });
    return handled.includes(spaceId);
  };
  await eventually(wakes, { what: `a drain of space ${spaceId}`, timeoutMs: 20_000, intervalMs: 100 });
}

describe('Redis loses everything', () => {
  test('FLUSHALL while idle: the next wake is handled', async () => {
    const queue = await open();
    const handled: number[] = [];
    await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 2 });
    await wakeUntilHandled(queue, 1, handled);
    const admin = new Redis(redis.url);
    await admin.flushall();
    admin.disconnect();
    expect(await queue.wake({ spaceId: 2, slot: 0 })).toBe(true);
    await eventually(() => handled.includes(2));
  });

  test('FLUSHALL during drains: their slots can be woken at once, and schedules come back', async () => {
    const queue = await open();
    const handled: number[] = [];
    const maintained: MaintenanceService[] = [];
    let letGo = () => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const drain = async ({ spaceId }: { spaceId: number }) => {
      handled.push(spaceId);
      if (handled.length === 1) await held;
    };
    const maintain = async (service: MaintenanceService) => void maintained.push(service);
    await queue.work({ drain, maintain }, { concurrency: 2 });
    await queue.schedule({ leaves: 60_000 });
    await eventually(() => maintained.length === 1, { what: 'the first run' });
    await wakeUntilHandled(queue, 1, handled);
    const admin = new Redis(redis.url);
    await admin.flushall();
    admin.disconnect();
    await queue.wake({ spaceId: 1, slot: 0 });
    await eventually(() => handled.length === 2, { what: 'the slot that was draining' });
    letGo();
    await wakeUntilHandled(queue, 3, handled);
    await queue.schedule({ leaves: 60_000 });
    await eventually(() => maintained.length === 2, { what: 'the run of the schedule that came back' });
  });

  test('killed, gone, and restarted empty: wakes fail fast, then work again', async () => {
    const queue = await open();
    const handled: number[] = [];
    await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 2 });
    await wakeUntilHandled(queue, 1, handled);
    await redis.kill();
    for (let i = 0; i < 20; i++) {
      const { woke, ms } = await timedWake(queue, 100 + i);
      expect(woke).toBe(false);
      expect(ms).toBeLessThan(WAKE_MS);
    }
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await redis.up();
    await wakeUntilHandled(queue, 2, handled);
    await queue.schedule({});
    expect(handled).not.toContain(100);
  });

  test('a frozen Redis fails wakes within the time promised', async () => {
    const queue = await open();
    await queue.work({ drain: async () => undefined }, { concurrency: 1 });
    const pid = redis.pid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      const { woke, ms } = await timedWake(queue, 1);
      expect(woke).toBe(false);
      expect(ms).toBeLessThan(WAKE_MS);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await eventually(() => queue.wake({ spaceId: 2, slot: 0 }), { timeoutMs: 20_000 });
  });

  test('opened while Redis is away: wakes fail fast, and all works once it is there', async () => {
    await redis.kill();
    const queue = await open();
    const handled: number[] = [];
    await queue.work({ drain: async ({ spaceId }) => void handled.push(spaceId) }, { concurrency: 2 });
    expect((await timedWake(queue, 1)).woke).toBe(false);
    await queue.schedule({ leaves: 60_000 });
    await redis.up();
    await wakeUntilHandled(queue, 2, handled);
  });

  test.each([
    ['after it worked', false],
    ['when it never was there', true],
  ])('closing while Redis is away, %s, takes a few seconds and waits for the handler', async (_, fromTheStart) => {
    if (fromTheStart) await redis.kill();
    const queue = await open();
    const seen: string[] = [];
    const drain = (_job: unknown, signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        seen.push('begun');
        signal.addEventListener('abort', () => resolve(void seen.push('ended')));
      });
    await queue.work({ drain, maintain: async () => undefined }, { concurrency: 1 });
    if (!fromTheStart) {
      await queue.wake({ spaceId: 1, slot: 0 });
      await eventually(() => seen.length === 1);
      await redis.kill();
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    const start = performance.now();
    await queue.close();
    expect(performance.now() - start).toBeLessThan(6_000);
    expect(seen).toEqual(fromTheStart ? [] : ['begun', 'ended']);
  });
});

describe('obliterate', () => {
  test('leaves no key of its own and every other one', async () => {
    const admin = new Redis(redis.url);
    await admin.flushall();
    await admin.set('freshvec:other:freshvec-drain:meta', 'kept');
    const options = { backend: 'redis', redisUrl: redis.url, prefix: 'freshvec:mine' } as const;
    const queue = await openQueue(options, { onError: (error) => errors.push(error) });
    queues.push(queue);
    const handled: number[] = [];
    const drain = async ({ spaceId }: { spaceId: number }) => {
      handled.push(spaceId);
      throw new Error('so that there is a failure');
    };
    const worker = await openQueue(options, { onError: () => {} });
    await worker.work({ drain, maintain: async () => undefined }, { concurrency: 1 });
    await queue.schedule({ leaves: 300, sweep: 60_000 });
    await wakeUntilHandled(queue, 1, handled);
    await worker.close();
    for (const slot of [0, 1]) await queue.wake({ spaceId: 2, slot });
    expect((await admin.keys('freshvec:mine:*')).length).toBeGreaterThan(4);
    await queue.obliterate();
    await queue.close();
    expect(await admin.keys('*')).toEqual(['freshvec:other:freshvec-drain:meta']);
    admin.disconnect();
    expect(errors).toEqual([]);
  });

  test('throws within seconds when Redis is away', async () => {
    const queue = await open();
    await redis.kill();
    const began = performance.now();
    await expect(queue.obliterate()).rejects.toThrow();
    expect(performance.now() - began).toBeLessThan(12_000);
    const late = await open();
    await expect(late.obliterate()).rejects.toMatchObject({ code: 'queue_unreachable' });
  });
});

test('a Redis that evicts is reported once', async () => {
  const evicting = await startRedis({ settings: { 'maxmemory-policy': 'allkeys-lru' } });
  const options = { backend: 'redis', redisUrl: evicting.url } as const;
  const queue = await openQueue(options, { onError: (error) => errors.push(error) });
  await queue.work({ drain: async () => undefined, maintain: async () => undefined }, { concurrency: 1 });
  await eventually(() => errors.length > 0);
  await queue.close();
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatchObject({ code: 'redis_evicts', message: expect.stringContaining('allkeys-lru') });
  await evicting.stop();
});
