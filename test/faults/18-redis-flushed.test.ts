import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type RedisServer, startRedis } from '../support/servers.js';
import { TIMEOUT_MS, withSystem } from './support/system.js';

/** FLUSHALL reaches every database, so the Redis is this file's own. */
let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const TRIES = 12;

test('fault 18: Redis FLUSHALL in mid-run [C]', { timeout: TIMEOUT_MS }, async ({ task }) => {
  task.meta.tries = TRIES;
  await withSystem({ redisUrl: redis.url, env: { FRESHVEC_SLOTS: '2' } }, async (system) => {
    const { provider, workers, app } = system;
    const admin = new Redis(redis.url);
    try {
      app.start();
      await workers.start();
      await workers.start();
      for (let i = 0; i < TRIES; i++) {
        // Every third flush while a drain waits for the provider, the others wherever it happens to be.
        if (i % 3 === 0) {
          provider.hold();
          await eventually(() => provider.waiting > 0, { what: 'a drain that waits for the provider' });
        } else await sleep(Math.random() * 100);
        await admin.flushall();
        provider.release();
        await system.probe();
      }
    } finally {
      admin.disconnect();
    }
    await app.stop();
    await system.assertFresh();
    await system.assertOneWriter();
    app.assertUndisturbed();
  });
});
