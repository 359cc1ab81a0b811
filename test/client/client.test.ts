import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, type ClientOptions, createClient, FreshvecError } from '../../src/index.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { copyEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';

let database: TestDatabase;
let client: Client;
let app: pg.Client;
const errors: unknown[] = [];

const open = (options: ClientOptions = {}): Client =>
  createClient({
    databaseUrl: database.url,
    env: {},
    configFile: false,
    onError: (error) => errors.push(error),
    ...options,
  });

beforeAll(async () => {
  database = await freshDatabase();
  client = open({ settings: { log: { level: 'silent' } } });
  app = new pg.Client({ connectionString: database.url });
  await app.connect();
  await app.query(
    `CREATE TABLE memory (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text, at date DEFAULT '2024-01-31');
     CREATE TABLE log (day date, n int, body text, PRIMARY KEY (day, n))`,
  );
  await client.schema.apply();
  await client.sources.add({
    table: 'memory',
    content: { columns: ['body'] },
    model: 'static/mini@128',
    index: 'none',
  });
  await client.sources.add({ table: 'log', content: { columns: ['body'] }, model: 'fake/log@4', index: 'none' });
});
afterAll(async () => {
  await app.end();
  await client.close();
  await database.drop();
});

async function insert(body: string | null): Promise<string> {
  const { rows } = await app.query<{ id: string }>('INSERT INTO memory (body) VALUES ($1) RETURNING id', [body]);
  return rows[0]?.id ?? '';
}

/** Runs a worker in this process for as long as `fn` takes. */
async function whileWorking<T>(of: Client, fn: () => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const working = of.work({ signal: stop.signal });
  try {
    return await Promise.race([fn(), working.then(() => Promise.reject(new Error('the worker ended')))]);
  } finally {
    stop.abort();
    await working;
  }
}

describe('waitUntilFresh', () => {
  test('resolves when the new text can be found', async () => {
    await whileWorking(client, async () => {
      const id = await insert('a recipe for sourdough bread');
      await client.waitUntilFresh('memory', id);
      const found = await client.search('memory', { text: 'how do I bake a loaf', k: 1 });
      expect(found.results[0]).toMatchObject({ key: id, stale: false, row: { id, at: '2024-01-31' } });
      await app.query(`UPDATE memory SET body = 'the tides of the northern sea' WHERE id = $1`, [id]);
      await client.waitUntilFresh('memory', id.toUpperCase());
      expect((await client.search('memory', { text: 'ocean tide', k: 1 })).results[0]).toMatchObject({
        key: id,
        stale: false,
      });
    });
    expect(errors).toEqual([]);
  });

  test('a row that should have no vector is as it should be', async () => {
    await client.waitUntilFresh('memory', await insert('  '), { timeoutMs: 0 });
    await client.waitUntilFresh('memory', '00000000-0000-4000-8000-000000000000', { timeoutMs: 0 });
  });

  test('nobody works: a typed time-out that names the key', async () => {
    const id = await insert('nobody works');
    const waiting = client.waitUntilFresh('memory', id, { timeoutMs: 30 });
    await expect(waiting).rejects.toMatchObject({
      name: 'FreshnessTimeoutError',
      code: 'freshness_timeout',
      key: id,
      timeoutMs: 30,
    });
    const stop = new AbortController();
    const aborted = client.waitUntilFresh('memory', id, { signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
  });

  test('a text that cannot be embedded: a typed failure, until it is edited', async () => {
    await app.query(`INSERT INTO log VALUES ('2024-01-31', 1, 'some [[poison]]')`);
    const key = { day: '2024-1-31', n: 1n };
    await client.workOnce();
    const failed = client.waitUntilFresh('log', key, { timeoutMs: 5_000 });
    await expect(failed).rejects.toMatchObject({
      name: 'RowFailedError',
      code: 'row_failed',
      reason: { code: 'input_rejected' },
    });
    await app.query(`UPDATE log SET body = 'fine'`);
    await client.workOnce();
    await client.waitUntilFresh('log', key, { timeoutMs: 0 });
    await client.waitUntilFresh('log', '["2024-01-31", 1]', { timeoutMs: 0 });
    await expect(client.waitUntilFresh('log', 'x')).rejects.toMatchObject({ code: 'key_invalid' });
  });

  test('an unknown source', async () => {
    await expect(client.waitUntilFresh('nothing', 1)).rejects.toMatchObject({ code: 'source_unknown' });
  });
});

describe('enqueue', () => {
  test("is part of the app's own transaction", async () => {
    await client.workOnce();
    const id = await insert('enqueued by hand');
    await client.workOnce();
    await app.query('BEGIN');
    expect(await client.enqueue(app, 'memory', [id], { force: true })).toBe(1);
    await app.query('ROLLBACK');
    expect(await client.workOnce()).toMatchObject({ claimed: 0, written: 0 });
    await app.query('BEGIN');
    await client.enqueue(app, 'memory', [id], { force: true });
    await app.query('COMMIT');
    expect(await client.workOnce()).toMatchObject({ written: 1, remaining: 0 });
  });
});

describe('status', () => {
  test('a large table is estimated and says so, unless exact is asked for', async () => {
    await app.query(
      `CREATE TABLE large (id int PRIMARY KEY, body text);
       INSERT INTO large SELECT i, 'text ' || i FROM generate_series(1, 120000) i; ANALYZE large`,
    );
    await client.sources.add({
      table: 'large',
      content: { columns: ['body'] },
      model: 'fake/large@2',
      index: 'none',
      store: 'table',
    });
    const before = (await client.status({ source: 'large' })).sources[0];
    expect(before).toMatchObject({ estimated: true, rows: expect.any(Number), failed: 0 });
    expect(Math.abs((before?.rows ?? 0) - 120_000)).toBeLessThan(3_000);
    expect(before?.coverage).toBeLessThan(0.02);
    // The first load is over, by hand; then 100 rows are edited.
    await app.query(`DELETE FROM freshvec.range WHERE space_id = (SELECT max(id) FROM freshvec.space)`);
    await app.query(`UPDATE large SET body = 'edited' WHERE id <= 100`);
    const after = (await client.status({ source: 'large' })).sources[0];
    expect(after).toMatchObject({ estimated: true, stale: 100, leased: 0, live: { store: 'table' } });
    expect((after?.fresh ?? 0) + (after?.stale ?? 0) + (after?.failed ?? 0)).toBe(after?.rows);
    const exact = (await client.status({ source: 'large', exact: true })).sources[0];
    expect(exact).toMatchObject({ rows: 120_000, fresh: 0, stale: 120_000, coverage: 0 });
    expect(exact).not.toHaveProperty('estimated');
    await client.sources.remove('large', { dropVectors: true });
  });

  test('a source without rows is fully covered; one whose table is gone does not hide the others', async () => {
    await app.query('CREATE TABLE doomed (id int PRIMARY KEY, body text)');
    await client.sources.add({ table: 'doomed', content: { columns: ['body'] }, model: 'fake/x@2' });
    const { sources } = await client.status({ source: 'doomed' });
    expect(sources).toMatchObject([{ rows: 0, fresh: 0, stale: 0, failed: 0, coverage: 1, oldestStaleSeconds: 0 }]);
    await app.query('DROP TABLE doomed');
    const all = (await client.status()).sources;
    expect(all.map(({ source }) => source)).toEqual(['doomed', 'log', 'memory']);
    expect(all[0]?.problem).toContain('source remove doomed');
    await client.sources.remove('doomed');
  });
});

describe('pauses and spend', () => {
  test('a pause, with what it says; it ends by itself, or is ended', async () => {
    expect(await client.pause('memory')).toEqual({ kind: 'person', reason: 'by hand', until: null });
    const before = Date.now();
    const { until, ...rest } = await client.pause('memory', { reason: ' moving house ', seconds: 3600 });
    expect(rest).toEqual({ kind: 'person', reason: 'moving house' });
    expect(Math.abs(Date.parse(until ?? '') - before - 3_600_000)).toBeLessThan(5_000);
    expect((await client.status({ source: 'memory' })).sources[0]?.paused).toEqual({ ...rest, until });
    const id = await insert('written while it was paused');
    expect(await client.workOnce()).toMatchObject({ claimed: 0, remaining: 1 });
    expect([await client.resume('memory'), await client.resume('memory')]).toEqual([true, false]);
    expect(await client.workOnce()).toMatchObject({ written: 1, remaining: 0 });
    await client.waitUntilFresh('memory', id, { timeoutMs: 0 });
  });

  test('what cannot be meant is refused', async () => {
    for (const seconds of [0, -1, Number.NaN, 1e12]) {
      await expect(client.pause('memory', { seconds })).rejects.toMatchObject({ code: 'pause_request_invalid' });
    }
    await expect(client.pause('nothing')).rejects.toMatchObject({ code: 'source_unknown' });
    await expect(client.resume('nothing')).rejects.toMatchObject({ code: 'source_unknown' });
    for (const days of [0, 1.5, Number.NaN]) {
      await expect(client.spend({ days })).rejects.toMatchObject({ code: 'spend_request_invalid' });
    }
    expect((await client.status({ source: 'memory' })).sources[0]).not.toHaveProperty('paused');
  });

  test('what a free model has cost', async () => {
    const { spend, total, cap } = await client.spend({ days: 2 });
    expect(spend.find(({ source }) => source === 'memory')).toMatchObject({ tokens: expect.any(Number), usd: 0 });
    expect(total.tokens).toBe(spend.reduce((sum, { tokens }) => sum + tokens, 0));
    expect(total.tokens).toBeGreaterThan(0);
    expect([total.usd, cap]).toEqual([0, null]);
  });
});

describe('a client', () => {
  test('opens nothing until it is used, closes twice, and says so after', async () => {
    const unused = open({ databaseUrl: 'postgres://nobody@127.0.0.1:1/none' });
    await unused.close();
    const used = open();
    await used.status();
    await used.close();
    await used.close();
    await expect(used.status()).rejects.toMatchObject({ code: 'client_closed' });
  });

  test('without a database says so', async () => {
    const lost = createClient({ env: {}, configFile: false });
    await expect(lost.status()).rejects.toMatchObject({ name: 'ConfigError', code: 'database_missing' });
    await expect(lost.status()).rejects.toBeInstanceOf(FreshvecError);
  });

  test('that is configured for another queue refuses to work, but may search', async () => {
    const other = open({ redisUrl: 'redis://127.0.0.1:1', settings: { log: { level: 'silent' } } });
    await expect(other.work({ signal: new AbortController().signal })).rejects.toMatchObject({
      code: 'queue_backend_mismatch',
    });
    await expect(other.search('memory', { text: 'anything', k: 1 })).resolves.toMatchObject({ epoch: 1 });
    await other.close();
  });

  test('embeds a text', async () => {
    const { vector, dimensions, model } = await client.embed('static/mini@128', 'hello');
    expect([vector.length, dimensions, model]).toEqual([128, 128, expect.stringMatching(/^static\/mini@128#/)]);
  });
});

test('embedded: all of it in one process, with no server', async () => {
  const home = mkdtempSync(join(tmpdir(), 'freshvec-embedded-'));
  copyEmbedded(join(home, '.freshvec/db'));
  const embedded = createClient({
    env: {},
    configFile: false,
    cwd: home,
    embedded: true,
    settings: { log: { level: 'silent' } },
  });
  try {
    const db = await embedded.database();
    await db.exec('CREATE TABLE memory (id int PRIMARY KEY, body text)');
    await db.query(`INSERT INTO memory SELECT i, 'document number ' || i FROM generate_series(1, 300) i`);
    await embedded.schema.apply();
    const plan = await embedded.sources.add({
      table: 'memory',
      content: { columns: ['body'] },
      model: 'static/mini@128',
    });
    expect(plan.space.index.kind).toBe('none');
    const seen: number[] = [];
    expect(await embedded.workOnce({ onProgress: ({ remaining }) => seen.push(remaining) })).toMatchObject({
      written: 300,
      remaining: 0,
    });
    expect(seen.at(-1)).toBe(0);
    await whileWorking(embedded, async () => {
      await db.query(`UPDATE memory SET body = 'cheese from the alps' WHERE id = 7`);
      await embedded.waitUntilFresh('memory', 7);
      const found = await embedded.search('memory', { text: 'alpine cheese', k: 1 });
      expect(found.results[0]).toMatchObject({ key: 7, stale: false });
    });
    expect((await embedded.status()).sources).toMatchObject([{ rows: 300, fresh: 300, coverage: 1 }]);
    expect(await embedded.uninstall()).toEqual({ sources: ['memory'], notes: [] });
  } finally {
    await embedded.close();
    rmSync(home, { recursive: true });
  }
});

test('embedded: a client that came while another had the database open gets it once that one is closed', async () => {
  const home = mkdtempSync(join(tmpdir(), 'freshvec-embedded-'));
  copyEmbedded(join(home, '.freshvec/db'));
  const client = () => createClient({ env: {}, configFile: false, cwd: home, embedded: true });
  const [first, second] = [client(), client()];
  try {
    await first.schema.apply();
    await expect(second.status()).rejects.toMatchObject({ code: 'embedded_in_use' });
    await first.close();
    expect((await second.status()).sources).toEqual([]);
  } finally {
    await second.close();
    await first.close();
    rmSync(home, { recursive: true });
  }
});

test('a worker that is told to stop while it starts leaves no connection open', async () => {
  for (let startMs = 0; startMs < 200; startMs += 10) {
    const brief = open({ settings: { log: { level: 'silent' } } });
    const stop = new AbortController();
    const working = brief.work({ signal: stop.signal });
    await sleep(startMs);
    stop.abort();
    await working;
    await brief.close();
  }
  // Who is still connected fails the file when its database is dropped.
});

test('a role that is still starting is waited for and stopped', async () => {
  const slow = open({ settings: { log: { level: 'silent' } } });
  const stop = new AbortController();
  await app.query('BEGIN; LOCK TABLE freshvec.migration IN ACCESS EXCLUSIVE MODE');
  const working = slow.work({ signal: stop.signal });
  let over = false;
  working.finally(() => {
    over = true;
  });
  const starts = async () => {
    const { rowCount } = await app.query(
      `SELECT FROM pg_locks WHERE NOT granted AND relation = 'freshvec.migration'::regclass
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return rowCount !== 0;
  };
  await eventually(starts, { what: 'a role that starts' });
  stop.abort();
  expect(await starts()).toBe(true);
  expect(over).toBe(false);
  await app.query('ROLLBACK');
  await working;
  await slow.close();
});

test('two workers on one source share the work', async () => {
  const second = open({ settings: { log: { level: 'silent' } } });
  await app.query(`INSERT INTO memory (body) SELECT 'shared work ' || i FROM generate_series(1, 200) i`);
  await whileWorking(client, () =>
    whileWorking(second, () =>
      eventually(async () => (await client.status({ source: 'memory' })).sources[0]?.stale === 0, {
        what: 'all fresh',
      }),
    ),
  );
  await second.close();
});
