import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { withClient } from '../support/admin.js';
import { startPostgres, startRedis } from '../support/servers.js';

describe('a private PostgreSQL', () => {
  test('has the settings asked for, survives a kill, and is gone after stop', async () => {
    const server = await startPostgres({ settings: { max_connections: 17 }, durable: true });
    try {
      await withClient(server.url, (client) => client.query('CREATE TABLE kept AS SELECT 42 AS n'));
      const before = server.pid;
      await server.restart('kill');
      expect(server.pid).not.toBe(before);
      const { rows } = await withClient(server.url, (client) =>
        client.query(`SELECT n, current_setting('max_connections') AS connections,
                             current_setting('fsync') AS fsync FROM kept`),
      );
      expect(rows).toEqual([{ n: 42, connections: '17', fsync: 'on' }]);
      await server.restart('immediate');
      await server.down();
      expect(server.pid).toBeUndefined();
    } finally {
      await server.stop();
    }
    await expect(withClient(server.url, (client) => client.query('SELECT 1'))).rejects.toThrow(/ECONNREFUSED/);
  });

  test('that cannot start says why', async () => {
    await expect(startPostgres({ settings: { shared_buffers: 'plenty' } })).rejects.toThrow(/invalid value/);
  });
});

test('a private Redis comes back empty on the same port', async () => {
  const server = await startRedis();
  try {
    await withRedis(server.url, (client) => client.set('key', 'value'));
    await server.kill();
    expect(server.pid).toBeUndefined();
    await server.up();
    expect(await withRedis(server.url, (client) => client.dbsize())).toBe(0);
    await server.restart();
    expect(await withRedis(server.url, (client) => client.ping())).toBe('PONG');
  } finally {
    await server.stop();
  }
});

async function withRedis<T>(url: string, fn: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, { retryStrategy: () => null });
  client.on('error', () => undefined);
  try {
    return await fn(client);
  } finally {
    client.disconnect();
  }
}
