import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/servers.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

interface Wire {
  readonly system: System;
  readonly queue: Queue;
  readonly redis: Redis;
}

/** What the network, a person at BullMQ's tools or a restored Redis may do to wake-ups. */
const FAULTS: Record<string, (wire: Wire) => Promise<void>> = {
  async 'delivered twice, and more often'({ queue, system }) {
    for (let i = 0; i < 60; i++) {
      await queue.add('drain', { spaceId: system.space.id, slot: i % 4 });
      await sleep(10);
    }
  },
  async late({ queue }) {
    await queue.pause();
    await sleep(1_500);
    await queue.resume();
  },
  async 'out of order, and for nobody'({ queue, system }) {
    await queue.pause();
    for (const slot of [5, 3, 4, 1, 0, 2]) {
      await queue.add('drain', { spaceId: system.space.id, slot }, { lifo: slot % 2 === 0, delay: slot * 50 });
      await queue.add('drain', { spaceId: 9_999, slot });
    }
    await sleep(500);
    await queue.resume();
  },
  async 'never, the queue emptied again and again'({ queue, system }) {
    for (let i = 0; i < 60; i++) {
      await queue.drain(true);
      // Nor does the doorbell ring.
      await system.db.query(`SELECT setval('freshvec.ring_until', 1)`);
      await sleep(20);
    }
  },
  async 'never, jobs lost but not the mark that they are there'({ queue, redis: raw }) {
    for (let i = 0; i < 60; i++) {
      const keys = await raw.keys(`${queue.opts.prefix}:${queue.name}:*`);
      const jobs = keys.filter((key) => !key.includes(':de:') && !key.endsWith(':meta') && !key.endsWith(':id'));
      if (jobs.length > 0) await raw.del(...jobs);
      await sleep(20);
    }
  },
};

test('fault 20: wake-ups delivered twice, late, out of order, never [C $]', { timeout: TIMEOUT_MS }, async ({
  task,
}) => {
  task.meta.tries = Object.keys(FAULTS).length;
  const options = { redisUrl: redis.url, app: { hides: false }, env: { FRESHVEC_BATCH_KEYS: '5' } };
  await withSystem(options, async (system) => {
    const { provider, workers, app } = system;
    const raw = new Redis(redis.url);
    const connection = { url: redis.url };
    const queue = new Queue('freshvec-drain', { connection, prefix: 'freshvec' });
    try {
      app.start();
      await workers.start();
      await workers.start();
      for (const [name, inject] of Object.entries(FAULTS)) {
        await inject({ system, queue, redis: raw });
        await system.probe().catch((error: unknown) => {
          throw new Error(`after "${name}": ${String(error)}`, { cause: error });
        });
      }
    } finally {
      await queue.close();
      raw.disconnect();
    }
    await app.stop();
    await system.assertFresh();
    await system.assertOneWriter();
    expect(provider.paidAgain()).toBe(0);
    app.assertUndisturbed();
  });
});
