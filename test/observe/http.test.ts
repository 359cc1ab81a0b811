import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Connection } from '../../src/client/connection.js';
import { type Endpoints, openEndpoints } from '../../src/client/endpoints.js';
import { serve } from '../../src/client/serve.js';
import type { Config } from '../../src/config/config.js';
import { loadConfig } from '../../src/config/load.js';
import { POISON } from '../../src/embed/providers/fake.js';
import { createClient } from '../../src/index.js';
import { startHttp } from '../../src/observe/http.js';
import { createLog } from '../../src/observe/log.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { parse, valuesOf } from './prometheus.js';

const log = createLog('silent');

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE notes (id int PRIMARY KEY, body text)`);
  await fixture.add({ table: 'notes', content: { columns: ['body'] }, model: 'fake/m@4', index: 'none' });
  await fixture.work();
});
afterAll(() => fixture.close());

/** What a test opened, closed in the opposite order. */
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}

const configOf = async (env: Record<string, string>): Promise<Config> =>
  loadConfig({ env: { DATABASE_URL: fixture.url, ...env }, file: false });

async function open(env: Record<string, string> = {}): Promise<{ endpoints: Endpoints; stop: AbortController }> {
  const connection = new Connection(await configOf(env), () => {}, 100);
  closing.push(() => connection.close());
  const stop = new AbortController();
  const endpoints = await openEndpoints(connection, log, stop.signal); // Port 0: any.
  closing.push(() => endpoints.stop());
  return { endpoints, stop };
}

async function ask(port: number, path: string, method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  const text = await response.text();
  const json = response.headers.get('content-type')?.startsWith('application/json');
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: json && text !== '' ? JSON.parse(text) : text,
  };
}

describe('the server', () => {
  test('/livez answers, HEAD has the headers only, and everything else is 404', async () => {
    const { endpoints } = await open();
    const live = await ask(endpoints.port, '/livez');
    expect(live).toMatchObject({ status: 200, body: { status: 'alive' } });
    const head = await ask(endpoints.port, '/livez', 'HEAD');
    expect(head).toMatchObject({ status: 200, text: '' });
    expect(head.headers.get('content-length')).toBe(live.headers.get('content-length'));
    for (const path of ['/', '/livez/', '/metrics/x', '//', '/%', '/../metricz']) {
      expect(await ask(endpoints.port, path)).toMatchObject({ status: 404, body: { status: 'not_found' } });
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      expect((await ask(endpoints.port, '/metrics', method)).status).toBe(404);
    }
  });

  test('what fails is told to the log and not to the asker', async () => {
    const errors: unknown[] = [];
    const broken = async () => {
      throw new Error('postgres://u:hunter2@db/app is away');
    };
    const server = await startHttp({
      ...{ host: '127.0.0.1', port: 0, boundSeconds: 30, metrics: broken, ready: broken, fresh: broken },
      onError: (error) => errors.push(error),
    });
    closing.push(() => server.stop());
    for (const path of ['/metrics', '/readyz', '/freshz']) {
      const { status, text } = await ask(server.port, path);
      expect(status).toBe(500);
      expect(text).not.toContain('hunter2');
    }
    expect(errors).toHaveLength(3);
  });

  test('a request that never ends is cut off', async () => {
    const { endpoints } = await open();
    const socket = connect(endpoints.port, '127.0.0.1');
    socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n');
    const [answer] = await once(socket, 'data');
    expect(String(answer)).toMatch(/^HTTP\/1\.1 408 /);
    socket.destroy();
  });

  test('stopping closes connections that are open', async () => {
    const { endpoints } = await open();
    const sockets: Socket[] = [];
    for (const sent of ['', 'GET /livez HTTP/1.1\r\n', 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n']) {
      const socket = connect(endpoints.port, '127.0.0.1').on('error', () => {});
      sockets.push(socket);
      await once(socket, 'connect');
      socket.write(sent);
    }
    const began = performance.now();
    const closed = sockets.map((socket) => new Promise((resolve) => socket.resume().once('close', resolve)));
    await endpoints.stop();
    await Promise.all(closed);
    expect(performance.now() - began).toBeLessThan(1_000);
    await expect(ask(endpoints.port, '/livez')).rejects.toThrow();
  });
});

describe('a port that cannot be had', () => {
  test('is a mistake in the configuration, named, before any role starts', async () => {
    const { endpoints } = await open();
    const config = await configOf({ FRESHVEC_HTTP_PORT: String(endpoints.port) });
    const error = await serve(config, ['embed'], log, new AbortController().signal).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'ConfigError', code: 'config_invalid' });
    expect(String(error)).toMatch(
      new RegExp(`127\\.0\\.0\\.1, port ${endpoints.port}: the port is in use.*FRESHVEC_HTTP_PORT`),
    );
  });

  test('an address of another machine', async () => {
    const config = await configOf({ FRESHVEC_HTTP_HOST: '192.0.2.1', FRESHVEC_HTTP_PORT: String(await freePort()) });
    await expect(serve(config, ['embed'], log, new AbortController().signal)).rejects.toThrow(/no such address/);
  });

  test.each(['many', '70000', '-1', '1.5'])('a port that is none: %s', async (port) => {
    await expect(configOf({ FRESHVEC_HTTP_PORT: port })).rejects.toThrow(/FRESHVEC_HTTP_PORT/);
  });

  test('without a port nothing listens', async () => {
    expect((await configOf({})).http).toEqual({ host: '127.0.0.1', port: 0 });
  });
});

describe('/readyz', () => {
  test('is 503 until the roles run, and again from the moment that they are told to stop', async () => {
    const { endpoints, stop } = await open();
    expect(await ask(endpoints.port, '/readyz')).toMatchObject({ status: 503, body: { status: 'starting' } });
    endpoints.started();
    expect(await ask(endpoints.port, '/readyz')).toMatchObject({ status: 200, body: { status: 'ready' } });
    stop.abort();
    expect(await ask(endpoints.port, '/readyz')).toMatchObject({ status: 503, body: { status: 'stopping' } });
    expect((await ask(endpoints.port, '/livez')).status).toBe(200);
  });

  test('is 503 while the database is away, and says nothing of where it is', async () => {
    const { endpoints } = await open({ DATABASE_URL: `postgres://u:hunter2@127.0.0.1:${await freePort()}/db` });
    endpoints.started();
    for (const path of ['/readyz', '/freshz']) {
      const { status, text, body } = await ask(endpoints.port, path);
      expect({ status, body }).toEqual({ status: 503, body: { status: 'database_unreachable' } });
      expect(text).not.toContain('hunter2');
    }
    const metrics = await ask(endpoints.port, '/metrics');
    expect(metrics.status).toBe(200);
    expect(valuesOf(parse(metrics.text), 'freshvec_database_up')).toEqual({ '': 0 });
  });
});

test('an app that works itself serves them too, until it is told to stop', async () => {
  const port = await freePort();
  const settings = { http: { port } };
  const client = createClient({ databaseUrl: fixture.url, env: {}, configFile: false, settings, onError: () => {} });
  closing.push(() => client.close());
  const stop = new AbortController();
  const working = client.work({ signal: stop.signal });
  closing.push(async () => {
    stop.abort();
    await working;
  });
  const ready = async () => (await ask(port, '/readyz')).status === 200;
  await eventually(ready, { what: 'the roles to run', timeoutMs: 40_000 });
  await fixture.db.query(`INSERT INTO notes VALUES (1, 'a text')`);
  const counted = async () =>
    valuesOf(parse((await ask(port, '/metrics')).text), 'freshvec_rows_total', 'outcome').written === 1;
  await eventually(counted, { what: 'the row to be counted', timeoutMs: 40_000 });
  expect((await ask(port, '/livez')).status).toBe(200);
  stop.abort();
  await working;
  await expect(ask(port, '/livez')).rejects.toThrow();
  await fixture.db.exec('TRUNCATE notes; DELETE FROM freshvec.change');
});

describe('/freshz', () => {
  afterEach(() => fixture.db.exec('TRUNCATE notes; DELETE FROM freshvec.change'));

  test('names the sources whose oldest stale row is beyond the bound', async () => {
    await fixture.db.exec(`INSERT INTO notes VALUES (1, 'a secret text');
      UPDATE freshvec.change SET at = now() - interval '1 min'`);
    const { endpoints } = await open();
    const late = await ask(endpoints.port, '/freshz');
    expect(late).toMatchObject({ status: 503, body: { status: 'late', boundSeconds: 30, unreadable: [] } });
    expect(late.body.late).toHaveLength(1);
    expect(late.body.late[0].source).toBe('notes');
    expect(late.body.late[0].oldestStaleSeconds).toBeGreaterThanOrEqual(60);
    expect(late.text).not.toContain('secret');
    const within = await ask(endpoints.port, '/freshz?bound=3600');
    expect(within).toMatchObject({ status: 200, body: { status: 'fresh', boundSeconds: 3600, late: [] } });
    expect((await ask(endpoints.port, '/freshz?bound=3600', 'HEAD')).status).toBe(200);
    for (const bound of ['', '0', '-1', 'soon', 'Infinity', '%20']) {
      expect((await ask(endpoints.port, `/freshz?bound=${bound}`)).status, bound).toBe(400);
    }
  });

  test('takes its bound from the configuration', async () => {
    await fixture.db.exec(
      `INSERT INTO notes VALUES (1, 'a'); UPDATE freshvec.change SET at = now() - interval '1 min'`,
    );
    const flags = { freshness: { boundSeconds: 600 } };
    const config = await loadConfig({ env: { DATABASE_URL: fixture.url }, flags, file: false });
    const connection = new Connection(config, () => {});
    closing.push(() => connection.close());
    const endpoints = await openEndpoints(connection, log, new AbortController().signal);
    closing.push(() => endpoints.stop());
    expect(await ask(endpoints.port, '/freshz')).toMatchObject({ status: 200, body: { boundSeconds: 600 } });
  });

  test('and scrapes read the database once in 5 s, however many ask', async () => {
    const { endpoints } = await open();
    const staleSeen = async () =>
      valuesOf(parse((await ask(endpoints.port, '/metrics')).text), 'freshvec_source_rows', 'state').stale;
    expect(await Promise.all([staleSeen(), staleSeen(), staleSeen()])).toEqual([0, 0, 0]);
    await fixture.db.exec(
      `INSERT INTO notes VALUES (1, 'a'); UPDATE freshvec.change SET at = now() - interval '1 min'`,
    );
    expect(await staleSeen()).toBe(0);
    expect((await ask(endpoints.port, '/freshz')).status).toBe(200);
    await eventually(async () => (await staleSeen()) === 1, { what: 'a new reading', intervalMs: 250 });
    expect((await ask(endpoints.port, '/freshz')).status).toBe(503);
  });
});

describe('a worker process', () => {
  test('serves from before its roles run until they have stopped, and counts what they do', async () => {
    const port = await freePort();
    const config = await configOf({ FRESHVEC_HTTP_PORT: String(port), FRESHVEC_HTTP_HOST: '127.0.0.1' });
    const stop = new AbortController();
    const serving = serve(config, ['embed', 'maintain'], log, stop.signal);
    try {
      await eventually(async () => (await ask(port, '/readyz')).status === 200, { what: 'readiness' });
      await fixture.db.exec(`INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) i;
        INSERT INTO notes VALUES (21, 'bad ${POISON}')`);
      const samples = await eventually(async () => {
        const parsed = parse((await ask(port, '/metrics')).text);
        const { written, failed } = valuesOf(parsed, 'freshvec_rows_total', 'outcome');
        return written === 20 && failed === 1 && parsed;
      });
      expect(valuesOf(samples, 'freshvec_rows_total', 'source', 'outcome')).toMatchObject({
        'notes,written': 20,
        'notes,failed': 1,
      });
      expect(valuesOf(samples, 'freshvec_provider_errors_total', 'failure').input_rejected).toBeGreaterThan(0);
      expect(Object.values(valuesOf(samples, 'freshvec_embed_batch_seconds_count'))[0]).toBeGreaterThan(0);
      const tokens = samples.find(({ name }) => name === 'freshvec_tokens_total');
      expect(tokens?.labels).toEqual({ source: 'notes', model: expect.stringMatching(/^fake\/m@4#[0-9a-f]{8}$/) });
      expect(tokens?.value).toBeGreaterThan(0);
    } finally {
      stop.abort();
      await serving;
    }
    await expect(ask(port, '/livez')).rejects.toThrow();
  });
});
