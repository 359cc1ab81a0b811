import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { redisDatabase, type TestRedis } from '../support/redisDatabase.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
let redis: TestRedis;
let admin: Redis;
beforeAll(async () => {
  [database, redis] = await Promise.all([freshDatabase(), redisDatabase()]);
  admin = new Redis(redis.url);
});
afterAll(async () => {
  admin.disconnect();
  await database.drop();
  await redis.drop();
});

const on = (argv: string[], env: Record<string, string>, stop?: AbortSignal): Promise<Ran> =>
  freshvec(argv, { env: { DATABASE_URL: database.url, ...env }, ...(stop ? { stop } : {}) });

/** An installation whose queue is in use. */
beforeEach(async () => {
  const env = { REDIS_URL: redis.url };
  await admin.set('freshvec:another:key', 'kept');
  expect((await on(['schema', 'apply'], env)).code).toBe(0);
  const stop = new AbortController();
  const up = on(['up'], env, stop.signal);
  await eventually(async () => (await admin.dbsize()) > 3, { what: 'the queue', timeoutMs: 20_000 });
  stop.abort();
  expect((await up).code).toBe(0);
});

const schemas = () => sql(database.url, `SELECT nspname FROM pg_namespace WHERE nspname LIKE 'freshvec%'`);

test('uninstall empties the queue in Redis, and nothing else there', async () => {
  const ran = await on(['uninstall', '--yes', '--json'], { REDIS_URL: redis.url });
  expect([ran.code, ran.json()]).toEqual([0, { uninstalled: true, sources: [] }]);
  expect(await admin.keys('*')).toEqual(['freshvec:another:key']);
  expect(await schemas()).toEqual([]);
  expect((await on(['uninstall', '--yes', '--json'], { REDIS_URL: redis.url })).code).toBe(0);
});

test.each([
  ['cannot be reached', { REDIS_URL: 'redis://127.0.0.1:1' }],
  ['is not named', {}],
])('a Redis that %s is told of, and no hindrance', async (_, env) => {
  const ran = await on(['uninstall', '--yes', '--json'], env as Record<string, string>);
  const note = expect.stringMatching(/not emptied: its keys begin with "freshvec:[\w-]{8,}:"/);
  expect([ran.code, ran.json()]).toEqual([0, { uninstalled: true, sources: [], notes: [note] }]);
  expect(ran.stderr).toContain('not emptied');
  expect(await schemas()).toEqual([]);
  await admin.flushdb();
});
