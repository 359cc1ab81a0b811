import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/servers.js';
import { TIMEOUT_MS, withSystem } from './support/system.js';

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

/** A minute, scaled: every time-out and pause of the queue (2 s at most) has come round several times by then. */
const GONE_MS = 10_000;
const RESTARTS = 3;

test('fault 19: Redis killed and restarted empty; Redis gone for a minute (here 10 s) [C]', {
  timeout: TIMEOUT_MS,
}, async ({ task }) => {
  task.meta.tries = RESTARTS + 1;
  await withSystem({ redisUrl: redis.url }, async (system) => {
    const { workers, app } = system;
    app.start();
    const first = await workers.start();
    for (let i = 0; i < RESTARTS; i++) {
      await system.probe();
      await sleep(Math.random() * 100);
      await redis.kill();
      await redis.up();
      await system.probe();
    }

    await redis.kill();
    const until = performance.now() + GONE_MS;
    await system.probe();
    // Without Redis one starts, and one stops, all the same.
    await workers.start();
    expect(await first.end('SIGTERM')).toEqual({ code: 0, signal: null });
    while (performance.now() < until) {
      await system.probe();
      await sleep(500);
    }
    await redis.up();
    await system.probe();

    await app.stop();
    await system.assertFresh();
    await system.assertOneWriter();
    app.assertUndisturbed();
  });
});
