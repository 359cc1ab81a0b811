import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { sql } from '../cli/support.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { redisDatabase, type TestRedis } from '../support/redisDatabase.js';

const CHILD = fileURLToPath(new URL('child.mjs', import.meta.url));

let database: TestDatabase;
let redis: TestRedis;
let env: Record<string, string>;
beforeAll(async () => {
  [database, redis] = await Promise.all([freshDatabase(), redisDatabase()]);
  env = { DATABASE_URL: database.url, REDIS_URL: redis.url, FRESHVEC_FAKE_LATENCY_MS: '20', FRESHVEC_BATCH_KEYS: '20' };
  await sql(database.url, `CREATE TABLE notes (id int PRIMARY KEY, body text)`);
  const client = createClient({ env, configFile: false });
  await client.schema.apply();
  await client.sources.add({ table: 'notes', content: { columns: ['body'] }, model: 'fake/p@16' });
  await client.close();
});
afterAll(async () => {
  await database.drop();
  await redis.drop();
});

interface Child {
  readonly process: ChildProcess;
  readonly log: () => string;
  readonly out: () => string;
}

function start(module: string, args: string[] = [], more: Record<string, string> = {}, cwd = process.cwd()): Child {
  const child = spawn(process.execPath, [CHILD, module, ...args], {
    cwd,
    env: { PATH: process.env.PATH, ...env, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [log, out] = ['', ''];
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk;
  });
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk;
  });
  return { process: child, log: () => log, out: () => out };
}

async function end(child: Child, signal: NodeJS.Signals): Promise<number | null> {
  const exited = once(child.process, 'exit');
  child.process.kill(signal);
  const [code] = await exited;
  return code as number | null;
}

const isReady = (child: Child) => () => child.log().includes('started');
const count = async (where: string) =>
  (await sql<{ n: number }>(database.url, `SELECT count(*)::int AS n FROM ${where}`))[0]?.n ?? 0;

describe.each([
  ['workers/embed.ts', [], 'SIGTERM'],
  ['src/cli/main.ts', ['work', '--json'], 'SIGINT'],
  ['src/cli/main.ts', ['up', '--json'], 'SIGTERM'],
] as const)('%s %j', (module, args, signal) => {
  test(`works, and on ${signal} gives back what it holds and exits with 0`, async () => {
    const child = start(module, [...args]);
    try {
      await eventually(isReady(child), { timeoutMs: 20_000, what: 'the start' });
      await sql(
        database.url,
        `TRUNCATE notes; INSERT INTO notes SELECT i, $$secret text $$ || i FROM generate_series(1, 400) i`,
      );
      await eventually(async () => (await count('notes WHERE embedding IS NOT NULL')) > 40, {
        what: 'the first vectors',
      });
      const began = performance.now();
      expect(await end(child, signal)).toBe(0);
      expect(performance.now() - began).toBeLessThan(5_000);
      expect(await count('freshvec.lease WHERE token IS NOT NULL')).toBe(0);
      expect(await count('notes WHERE embedding IS NULL AND embedding_hash IS NOT NULL')).toBe(0);
      if (args.length > 0) expect(JSON.parse(child.out())).toEqual({ stopped: true });
      expect(child.log()).not.toMatch(/secret text|postgres:\/\/|redis:\/\//);
    } finally {
      child.process.kill('SIGKILL');
    }
  });
});

test('workers/maintain.ts builds the index that is missing, and stops', async () => {
  const client = createClient({ env, configFile: false });
  await sql(database.url, `DROP INDEX IF EXISTS freshvec_space_1`);
  const cwd = mkdtempSync(join(tmpdir(), 'freshvec-maintain-'));
  writeFileSync(join(cwd, 'freshvec.config.json'), '{"maintenance":{"everyMs":{"index":500}}}');
  const child = start('workers/maintain.ts', [], {}, cwd);
  try {
    await client.workOnce();
    await sql(database.url, `DROP INDEX IF EXISTS freshvec_space_1`);
    await eventually(async () => (await count(`pg_indexes WHERE indexname = 'freshvec_space_1'`)) === 1, {
      timeoutMs: 30_000,
      what: 'the index',
    });
    expect(await end(child, 'SIGTERM')).toBe(0);
  } finally {
    child.process.kill('SIGKILL');
    rmSync(cwd, { recursive: true });
    await client.close();
  }
});

test('workers know only DATABASE_URL, and say what is missing', async () => {
  const child = start('workers/embed.ts', [], { DATABASE_URL: '' });
  const [code] = await once(child.process, 'exit');
  expect(code).toBe(1);
  expect(child.log()).toMatch(/database_missing.*DATABASE_URL/);
});

test('told to stop while the database is away: ends at once', async () => {
  const child = start('workers/embed.ts', [], {
    DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
    FRESHVEC_LOG_LEVEL: 'debug',
  });
  const ended = once(child.process, 'exit');
  await eventually(() => child.log().includes('starting'), { timeoutMs: 20_000, what: 'the start' });
  const began = performance.now();
  child.process.kill('SIGTERM');
  expect((await ended)[0]).toBe(0);
  expect(performance.now() - began).toBeLessThan(4_000);
});
