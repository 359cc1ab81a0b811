import { Redis } from 'ioredis';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { asAdmin, assertNobodyConnected, openConnections, withClient } from './admin.js';
import { freshDatabase, type TestDatabase } from './database.js';
import { eventually } from './eventually.js';
import { redisDatabase } from './redisDatabase.js';

describe('the servers of the run', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await freshDatabase();
  });
  afterAll(() => database.drop());

  test('PostgreSQL answers and pgvector computes', async () => {
    const distance = await withClient(database.url, async (client) => {
      const { rows } = await client.query<{ d: number }>(`SELECT '[3,4]'::vector <-> '[0,0]'::vector AS d`);
      return rows[0]?.d;
    });
    expect(distance).toBe(5);
  });

  test('two test databases do not see one another', async () => {
    const other = await freshDatabase();
    await withClient(other.url, (client) => client.query('CREATE TABLE here (id int)'));
    const { rows } = await withClient(database.url, (client) =>
      client.query<{ there: boolean }>(`SELECT to_regclass('here') IS NOT NULL AS there`),
    );
    expect(rows).toEqual([{ there: false }]);
    await other.drop();
  });

  test('a pool that was not closed fails the drop, which removes the database all the same', async () => {
    const leaky = await freshDatabase();
    const pool = new pg.Pool({ connectionString: leaky.url, application_name: 'leak' });
    // The server ends this connection when the database goes.
    pool.on('error', () => undefined);
    await pool.query('SELECT 1');
    const held = await asAdmin(inject('postgresUrl'), (admin) => openConnections(admin, leaky.name));
    expect(held).toMatchObject([{ application: 'leak', state: 'idle' }]);
    await expect(leaky.drop()).rejects.toThrow(/Leaked: 1 connections to .*\n.* leak idle: SELECT 1/);
    await expect(withClient(leaky.url, (client) => client.query('SELECT 1'))).rejects.toThrow(/does not exist/);
    await pool.end();
  });

  test('a pool that was closed a moment ago is no leak', async () => {
    const pool = new pg.Pool({ connectionString: database.url });
    await Promise.all([1, 2, 3].map(() => pool.query('SELECT 1')));
    await pool.end();
    await asAdmin(inject('postgresUrl'), (admin) => assertNobodyConnected(admin, database.name));
  });

  test('Redis databases are apart, empty when taken, and checked for leaks', async () => {
    const [one, two] = await Promise.all([redisDatabase(), redisDatabase()]);
    expect(one.db).not.toBe(two.db);
    const client = new Redis(one.url);
    await client.set('key', 'value');
    const policy = await client.config('GET', 'maxmemory-policy');
    expect(policy).toEqual(['maxmemory-policy', 'noeviction']);
    await two.drop();
    await expect(one.drop()).rejects.toThrow(/Leaked: 1 connections/);
    expect(await client.dbsize()).toBe(0);
    client.disconnect();
  });
});

describe('eventually', () => {
  test('gives what the probe found, after errors and refusals', async () => {
    let looks = 0;
    const probe = () => {
      looks += 1;
      if (looks === 1) throw new Error('too early');
      return looks < 4 ? false : looks;
    };
    expect(await eventually(probe, { intervalMs: 1 })).toBe(4);
  });

  test('names what did not happen, and why', async () => {
    const probe = () => Promise.reject(new Error('still closed'));
    const waiting = eventually(probe, { timeoutMs: 20, intervalMs: 1, what: 'the door' });
    await expect(waiting).rejects.toThrow('the door did not come true within 20 ms: still closed');
  });

  test('does not wait for a probe that hangs', async () => {
    const waiting = eventually(() => new Promise<boolean>(() => undefined), { timeoutMs: 20 });
    await expect(waiting).rejects.toThrow('the probe itself did not answer');
  });
});
