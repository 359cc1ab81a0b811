import { createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { takeBudget } from '../../src/budget/account.js';
import { openPostgres } from '../../src/db/postgres.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { openFixture } from '../support/fixture.js';

let database: TestDatabase;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.drop());

function open(overrides: { url?: string; poolSize?: number; reachMs?: number; onError?: (e: unknown) => void } = {}) {
  const defaults = { url: database.url, poolSize: 2, applicationName: 'postgres.test', onError: () => undefined };
  return openPostgres({ ...defaults, ...overrides });
}

const KILL_OTHERS = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'postgres.test' AND pid <> pg_backend_pid()`;

test('a killed idle connection is reported and replaced', async () => {
  const errors: unknown[] = [];
  const db = open({ onError: (error) => errors.push(error) });
  await Promise.all([db.query('SELECT pg_sleep(0.05)'), db.query('SELECT pg_sleep(0.05)')]);
  await db.query(KILL_OTHERS);
  await eventually(() => errors.length > 0, { what: 'the report of the killed connection' });
  await Promise.all([1, 2, 3, 4].map(() => db.query('SELECT 1')));
  await db.close();
});

test('a connection that dies inside a transaction fails that transaction only', async () => {
  const db = open();
  const dying = db.tx(async (tx) => {
    await tx.query('SELECT pg_terminate_backend(pg_backend_pid())');
  });
  await expect(dying).rejects.toThrow();
  const rows = await Promise.all([1, 2, 3].map((n) => db.query('SELECT $1::int AS n', [n])));
  expect(rows.flat()).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  await db.close();
});

test('a transaction that need not be flushed says so to the server, and no other does', async () => {
  const db = open({ poolSize: 1 });
  const sql = `SELECT current_setting('synchronous_commit') AS commit`;
  expect(await db.tx((tx) => tx.query(sql), { flushed: false })).toEqual([{ commit: 'off' }]);
  expect(await db.tx((tx) => tx.query(sql))).toEqual([{ commit: 'on' }]);
  expect(await db.query(sql)).toEqual([{ commit: 'on' }]);
  await db.close();
});

test('a listener whose connection is killed listens again, and says that it may have missed something', async () => {
  const got: string[] = [];
  const db = open();
  const stop = await db.listen('bell', (payload) => got.push(payload));
  await db.query(KILL_OTHERS);
  await eventually(() => got.includes(''), { what: 'the call after the reconnect' });
  await db.query(`SELECT pg_notify('bell', 'heard')`);
  await eventually(() => got.includes('heard'), { what: 'the notification on the new connection' });
  await stop();
  await db.close();
});

test('close stops listeners that nobody stopped, also while they reconnect', async () => {
  const db = open();
  await db.listen('bell', () => undefined);
  await db.query(KILL_OTHERS);
  await db.close();
});

test('more work than connections waits instead of failing', async () => {
  const db = open({ poolSize: 1, reachMs: 300 });
  const slow = db.query('SELECT pg_sleep(1)');
  await expect(db.query('SELECT 1 AS n')).resolves.toEqual([{ n: 1 }]);
  await slow;
  await db.close();
});

test('a server that is not there is an error that says what to do', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  const port = typeof address === 'object' ? address?.port : 0;
  const db = open({ url: `postgres://someone:secret@127.0.0.1:${port}/here`, reachMs: 400 });
  const error = await db.query('SELECT 1').catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'database_unreachable' });
  expect(String(error)).toContain(`127.0.0.1:${port}/here`);
  expect(String(error)).not.toContain('secret');
  await db.close();
});

test('a database that does not exist fails at once', async () => {
  const url = new URL(database.url);
  url.pathname = '/no_such_database';
  const db = open({ url: url.href });
  await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: '3D000' });
  await db.close();
});

describe('where the database has another isolation level by default', () => {
  beforeAll(async () => {
    const db = open();
    await db.exec('CREATE TABLE counter (id int PRIMARY KEY, n int); INSERT INTO counter VALUES (1, 0)');
    await db.close();
  });
  afterEach(() => setDefault('read committed'));

  async function setDefault(level: string): Promise<void> {
    const db = open();
    await db.query(`ALTER DATABASE "${database.name}" SET default_transaction_isolation = '${level}'`);
    await db.close();
  }
  const LEVEL = `SELECT current_setting('transaction_isolation') AS level`;
  const COUNT = 'UPDATE counter SET n = n + 1 WHERE id = 1';

  test.each(['repeatable read', 'serializable'])('%s: statements read what is committed', async (level) => {
    await setDefault(level);
    const db = open({ poolSize: 4 });
    expect(await db.query(LEVEL)).toEqual([{ level: 'read committed' }]);
    expect(await db.tx((tx) => tx.query(LEVEL))).toEqual([{ level: 'read committed' }]);
    expect(await db.session((session) => session.query(LEVEL))).toEqual([{ level: 'read committed' }]);
    // Each waits for the one before and goes on with what that has written.
    await db.query('UPDATE counter SET n = 0');
    await Promise.all(Array.from({ length: 40 }, () => db.query(COUNT)));
    expect(await db.query('SELECT n FROM counter')).toEqual([{ n: 40 }]);
    await expect(db.query('SELECT 1 / 0')).rejects.toMatchObject({ code: '22012' });
    expect(await db.query('SELECT 1 AS n')).toEqual([{ n: 1 }]);
    await db.close();
  });

  test('a session whose default changes later is noticed by its first failure', async () => {
    const db = open({ poolSize: 2 });
    await db.query('UPDATE counter SET n = 0');
    // As behind a pooler, which lends another session for each transaction.
    await Promise.all(
      [1, 2].map(() =>
        db.query(`SELECT set_config('default_transaction_isolation', 'repeatable read', false), pg_sleep(0.1)`),
      ),
    );
    await Promise.all(Array.from({ length: 40 }, () => db.query(COUNT)));
    expect(await db.query('SELECT n FROM counter')).toEqual([{ n: 40 }]);
    await db.close();
  });

  test('budgets are taken by many at once', async () => {
    const fixture = await openFixture();
    try {
      await fixture.db.exec(`DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read');
      END $$`);
      const db = open({ url: fixture.url, poolSize: 8 });
      const take = { limits: {}, tokens: 1, burstSeconds: 1, urgent: false, nanos: 5, capNanos: 150, spaceId: 1 };
      const taken = await Promise.all(Array.from({ length: 40 }, () => takeBudget(db, 'new', take)));
      expect(taken.filter(({ granted }) => granted)).toHaveLength(30);
      await db.close();
    } finally {
      await fixture.close();
    }
  });
});
