import { mkdtempSync, rmSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pauseWork, resumeWork } from '../../../src/catalog/pause.js';
import { liveSpace } from '../../../src/catalog/space.js';
import { THROTTLE_DEFAULTS } from '../../../src/config/throttle.js';
import { openDatabase } from '../../../src/db/open.js';
import { createThrottle, type ThrottleTarget } from '../../../src/reembed/throttle/create-throttle.js';
import { throttleReasons } from '../../../src/reembed/throttle/describe.js';
import { eventually } from '../../support/eventually.js';
import { type Fixture, openFixture } from '../../support/fixture.js';
import { Watched } from './support.js';

const ROWS = 3_000;

let fixture: Fixture;
let target: ThrottleTarget;

beforeAll(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`
    CREATE TABLE doc (id int, part text, body text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
    CREATE TABLE doc_a PARTITION OF doc FOR VALUES IN ('a') WITH (autovacuum_enabled = false);
    CREATE TABLE doc_b PARTITION OF doc FOR VALUES IN ('b') WITH (autovacuum_enabled = false);
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO other VALUES (1);
    INSERT INTO doc SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'text ' || i FROM generate_series(1, ${ROWS}) i;
    ANALYZE doc_a; ANALYZE doc_b`);
  const content = { columns: ['body'] };
  const { source } = await fixture.add({ table: 'doc', content, model: 'fake/m@8', store: 'table' });
  target = { source };
});
afterAll(() => fixture.close());

/** A connection of the app's own. */
async function app(url = fixture.url): Promise<pg.Client & { pid: number }> {
  const client = new pg.Client({ connectionString: url, application_name: 'app' });
  client.on('error', () => {});
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return Object.assign(client, { pid: rows[0]?.pid ?? 0 });
}

async function waiting(count: number): Promise<void> {
  const sql = `SELECT count(DISTINCT pid)::int AS n FROM pg_locks WHERE NOT granted AND pid IN (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'app')`;
  const there = async () => (await fixture.db.query<{ n: number }>(sql))[0]?.n === count;
  await eventually(there, { what: `${count} that wait` });
}

describe('lock waiters', () => {
  test('those that wait for a row, and for how long; not those of another table', async () => {
    const watched = new Watched(fixture.db, target, { lockWaiters: 2, lockWaitMs: 1 });
    const [holder, ...others] = await Promise.all([1, 2, 3, 4].map(() => app()));
    const stranger = await app();
    if (!holder) throw new Error('no holder');
    await watched.tick();
    expect(watched.signal('lock_waiters')).toMatchObject({ state: 'fine', value: 0, bound: 2 });
    await holder.query(`BEGIN; SELECT FROM doc WHERE id = 2 FOR UPDATE; SELECT FROM other FOR UPDATE`);
    const elsewhere = stranger.query('UPDATE other SET id = id');
    await waiting(1);
    await watched.tick();
    expect(watched.signal('lock_waiters')).toMatchObject({ state: 'fine', value: 0 });
    expect(watched.signal('lock_wait')).toMatchObject({ state: 'fine', value: 0 });

    const updates = others.map((client) => client.query(`UPDATE doc SET body = body WHERE id = 2`));
    await waiting(4);
    const wait = await watched.until('lock_wait', { state: 'pressed' });
    expect(watched.signal('lock_waiters')).toMatchObject({ state: 'pressed', value: 3 });
    expect(wait.note).toMatch(/^process \d+ waits longest$/);
    expect(others.map(({ pid }) => pid)).toContain(Number(/\d+/.exec(wait.note ?? '')?.[0]));
    expect(watched.share).toBeLessThanOrEqual(0.5);

    await holder.query('COMMIT');
    await Promise.all([...updates, elsewhere]);
    await watched.until('lock_waiters', { state: 'fine', value: 0 });
    const before = watched.share;
    await watched.tick();
    expect(watched.share).toBeGreaterThan(before);
    await Promise.all([holder, stranger, ...others].map((client) => client.end()));
    await watched.close();
  });

  test('those that wait for the whole table, on a partition as well', async () => {
    const watched = new Watched(fixture.db, target, { lockWaiters: 0 });
    const [holder, ddl] = [await app(), await app()];
    await holder.query(`BEGIN; LOCK TABLE doc_b IN ROW EXCLUSIVE MODE`);
    await ddl.query('BEGIN');
    const wants = ddl.query('LOCK TABLE doc_b IN ACCESS EXCLUSIVE MODE');
    await waiting(1);
    await watched.until('lock_waiters', { state: 'pressed', value: 1 });
    await holder.query('COMMIT');
    await wants;
    await watched.until('lock_waiters', { state: 'fine' });
    await Promise.all([holder.end(), ddl.end()]);
    await watched.close();
  });
});

describe('old transactions', () => {
  test('a long one is named; one that holds no snapshot is none', async () => {
    const watched = new Watched(fixture.db, target, { transactionSeconds: 0.001 });
    const [idle, long] = [await app(), await app()];
    await idle.query('BEGIN; SELECT 1');
    await watched.until('transaction_age', { state: 'fine', value: 0 });
    await long.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    const { note } = await watched.until('transaction_age', { state: 'pressed' });
    expect(note).toContain(`process ${long.pid} (app)`);
    for (let i = 0; i < 5; i++) await watched.tick();
    // It is not the backfill's doing, so that goes on, slowly.
    expect(watched.share).toBe(0.1);
    await long.query('COMMIT');
    await watched.until('transaction_age', { state: 'fine' });
    await Promise.all([idle.end(), long.end()]);
    await watched.close();
  });

  test('its age in transactions', async () => {
    const watched = new Watched(fixture.db, target, { xminAge: 20 });
    const long = await app();
    await long.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    for (let i = 0; i < 25; i++) await fixture.db.query('SELECT pg_current_xact_id()::text');
    const { value, note } = await watched.until('xmin_age', { state: 'pressed' });
    expect(value).toBeGreaterThanOrEqual(25);
    expect(note).toContain(`process ${long.pid} (app)`);
    await long.end();
    await watched.until('xmin_age', { state: 'fine' });
    await watched.close();
  });
});

describe('vacuum', () => {
  test('one of a partition, as long as it runs', async () => {
    const watched = new Watched(fixture.db, target, { vacuum: true });
    await watched.until('vacuum', { state: 'fine', value: 0 });
    const vacuums = await app();
    await vacuums.query('SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1');
    const done = vacuums.query('VACUUM (FREEZE) doc_a').catch(() => 'cancelled');
    const { note } = await watched.until('vacuum', { state: 'pressed', value: 1 });
    expect(note).toBe(`process ${vacuums.pid} vacuums doc_a`);
    await fixture.db.query('SELECT pg_cancel_backend($1)', [vacuums.pid]);
    expect(await done).toBe('cancelled');
    await watched.until('vacuum', { state: 'fine', value: 0 });
    await vacuums.end();
    await watched.close();
  });

  test('dead rows that nobody removed', async () => {
    const watched = new Watched(fixture.db, target, { deadRowShare: 0.2 });
    const writer = await app();
    await writer.query(`UPDATE doc SET body = body || '.' WHERE part = 'b'; SELECT pg_stat_force_next_flush()`);
    const { note } = await watched.until('dead_rows', { state: 'pressed' });
    expect(note).toMatch(/doc_b has 1500 dead rows.*VACUUM doc_b/);
    await writer.query('VACUUM doc_b');
    await watched.until('dead_rows', { state: 'fine' });
    await writer.end();
    await watched.close();
  });
});

describe('app latency', () => {
  test('a row is looked up by its key, over all partitions', async () => {
    const watched = new Watched(fixture.db, target, { probeMs: 2_000 });
    // A first reading may still be measuring, and quicker than the clock tells.
    const { state } = await watched.until('app_latency', ({ value }) => value !== null && value > 0);
    expect(state).toBe('fine');
    await watched.close();
  });

  test('a slow probe slows down to the least, and is forgotten soon', async () => {
    await fixture.db.exec(`CREATE TABLE slowness (seconds float8); INSERT INTO slowness VALUES (0.05)`);
    const probeSql = 'SELECT pg_sleep(seconds) FROM slowness';
    const watched = new Watched(fixture.db, target, { probeMs: 10, probeSql });
    await watched.until('app_latency', { state: 'pressed' });
    await watched.untilShare(0.02);
    await fixture.db.exec('UPDATE slowness SET seconds = 0');
    await watched.until('app_latency', { state: 'fine' });
    await watched.close();
  });

  test('the app’s own lock on the table is pressure, and holds no tick up', async () => {
    const watched = new Watched(fixture.db, target, { probeMs: 100, lockWaiters: 5 });
    await watched.until('app_latency', { state: 'fine' });
    const ddl = await app();
    await ddl.query('BEGIN; LOCK TABLE doc IN ACCESS EXCLUSIVE MODE');
    const { note } = await watched.until('app_latency', { state: 'pressed' });
    expect(note).toBe('the probe was given up after 1000 ms');
    await ddl.query('COMMIT');
    await watched.until('app_latency', { state: 'fine' });
    await ddl.end();
    await watched.close();
  });

  test('a probe that cannot run is unknown, and so is one that writes', async () => {
    for (const [probeSql, why] of [
      ['SELECT * FROM nowhere', /"nowhere" does not exist/],
      ['DELETE FROM other', /read-only transaction/],
    ] as const) {
      const watched = new Watched(fixture.db, target, { probeMs: 100, probeSql });
      await watched.tick();
      expect(watched.signal('app_latency')).toMatchObject({ state: 'unknown', value: null });
      expect(watched.signal('app_latency').note).toMatch(why);
      expect(watched.share).toBe(0.5);
      await watched.close();
    }
    expect(await fixture.db.query('SELECT FROM other')).toHaveLength(1);
  });

  test('against what it takes while the backfill rests', async () => {
    await fixture.db.exec(`CREATE TABLE pace (seconds float8); INSERT INTO pace VALUES (0.02)`);
    const probeSql = 'SELECT pg_sleep(seconds) FROM pace';
    const watched = new Watched(fixture.db, target, { probeMs: 2_000, probeBaselineTimes: 5, probeSql });
    await watched.tick();
    expect(watched.signal('app_latency').note).toMatch(/measuring/);
    // It comes to rest by itself, measures, and goes on.
    await watched.until('app_latency', ({ bound }) => bound < 2_000);
    expect(watched.shares).toContain(0.1);
    expect(watched.signal('app_latency').bound).toBeGreaterThanOrEqual(100);
    await fixture.db.exec('UPDATE pace SET seconds = 1.5');
    await watched.until('app_latency', { state: 'pressed' });
    await watched.close();
  });

  test('a source without rows has nothing to look up', async () => {
    await fixture.db.exec('CREATE TABLE bare (id int PRIMARY KEY, body text)');
    const content = { columns: ['body'] };
    const { source } = await fixture.add({ table: 'bare', content, model: 'fake/m@8', store: 'table' });
    const watched = new Watched(fixture.db, { source }, { probeMs: 100 });
    await watched.tick();
    expect(watched.signal('app_latency')).toMatchObject({ state: 'fine', value: null });
    expect(watched.share).toBe(1);
    await watched.close();
  });
});

describe('disk', () => {
  test('the disk of a path, as full as it is', async () => {
    const { blocks, bfree, bavail } = await statfs(tmpdir());
    const used = (blocks - bfree) / (blocks - bfree + bavail);
    const over = new Watched(fixture.db, target, { diskPath: tmpdir(), diskUsedShare: used * 0.9 });
    await over.tick();
    expect(over.signal('disk_used')).toMatchObject({ state: 'pressed', unit: 'share' });
    expect(over.share).toBeLessThanOrEqual(0.5);
    const under = new Watched(fixture.db, target, { diskPath: tmpdir(), diskUsedShare: (1 + used) / 2 });
    await under.tick();
    expect(under.signal('disk_used').state).toBe('fine');
    expect(under.share).toBe(1);
    await Promise.all([over.close(), under.close()]);
  });

  test('a path that is gone is unknown, and a stop once it stays so', async () => {
    const path = mkdtempSync(join(tmpdir(), 'freshvec-disk-'));
    const settings = { diskPath: path, diskUsedShare: 0.999_999, unknownStopsSeconds: 0.3 };
    const watched = new Watched(fixture.db, target, settings);
    await watched.tick();
    expect(watched.share).toBe(1);
    rmSync(path, { recursive: true });
    await watched.tick();
    expect(watched.signal('disk_used')).toMatchObject({ state: 'unknown', value: null });
    expect(watched.share).toBe(0.5);
    await watched.untilShare(0);
    expect(watched.shares).toContain(0.1);
    expect(watched.signal('disk_used').note).toMatch(/ENOENT.*the backfill rests \(throttle\.unknownStopsSeconds\)/);
    await watched.close();
  });

  test('the database against the size that it may have: at rest above', async () => {
    const [row] = await fixture.db.query<{ bytes: number }>('SELECT pg_database_size(current_database()) AS bytes');
    const bytes = row?.bytes ?? 0;
    const full = new Watched(fixture.db, target, { maxDatabaseBytes: Math.floor(bytes / 2) });
    await full.tick();
    expect(full.signal('database_size')).toMatchObject({ state: 'pressed', unit: 'bytes' });
    expect(full.share).toBe(0);
    const nearly = new Watched(fixture.db, target, { maxDatabaseBytes: Math.floor(bytes * 1.03) });
    await nearly.tick();
    expect(nearly.signal('database_size').state).toBe('pressed');
    expect(nearly.share).toBe(0.5);
    await Promise.all([full.close(), nearly.close()]);
  });

  test('that nobody looks is said', async () => {
    const watched = new Watched(fixture.db, target, { maxDatabaseBytes: null });
    await watched.tick();
    expect(watched.signal('disk_used').note).toMatch(/nobody looks.*throttle\.maxDatabaseBytes/);
    expect(watched.share).toBe(1);
    await watched.close();
  });

  test('the WAL on disk', async () => {
    const watched = new Watched(fixture.db, target, { walDirectoryBytes: 1 });
    await watched.tick();
    expect(watched.signal('wal_directory').value).toBeGreaterThanOrEqual(16 * 2 ** 20);
    expect(watched.share).toBe(0);
    await watched.close();
  });
});

describe('edits', () => {
  test('that wait for workers slow it down, unless they wait for a person', async () => {
    const { db } = fixture;
    await db.query('TRUNCATE freshvec.change');
    const watched = new Watched(db, target, { editWaitSeconds: 5 });
    await watched.tick();
    expect(watched.signal('edits_waiting')).toMatchObject({ state: 'fine', value: 0 });
    await db.query(`UPDATE doc SET body = body || '!' WHERE id = 1`);
    await watched.tick();
    expect(watched.signal('edits_waiting').state).toBe('fine');
    await db.query(`UPDATE freshvec.change SET at = at - interval '1 minute'`);
    await watched.tick();
    expect(watched.signal('edits_waiting')).toMatchObject({ state: 'pressed', note: expect.stringMatching(/workers/) });
    expect(watched.share).toBe(0.5);
    await pauseWork(db, { sourceId: target.source.id }, { kind: 'person', reason: 'holidays' });
    await watched.until('edits_waiting', { state: 'fine', value: 0 });
    await resumeWork(db, { sourceId: target.source.id });
    await watched.until('edits_waiting', { state: 'pressed' });
    await db.query('TRUNCATE freshvec.change');
    await watched.until('edits_waiting', { state: 'fine', value: 0 });
    await watched.close();
  });
});

describe('searches', () => {
  test('by an index of the live vectors leave half of the time', async () => {
    const { db } = fixture;
    const live = await liveSpace(db, target.source.id);
    const watched = new Watched(db, target, { indexedShare: 0.5 });
    await watched.tick();
    expect(watched.signal('vector_index')).toMatchObject({ state: 'fine', value: 0 });
    await db.exec(`CREATE INDEX in_use ON freshvec.vector_${live?.space.id} USING hnsw (embedding vector_cosine_ops)`);
    for (let i = 0; i < 3; i++) await watched.tick();
    expect(watched.signal('vector_index')).toMatchObject({
      state: 'pressed',
      note: expect.stringMatching(/at most 50 %/),
    });
    expect(watched.share).toBe(0.5);
    await db.exec('DROP INDEX freshvec.in_use');
    await watched.tick();
    expect(watched.share).toBeGreaterThan(0.5);
    await watched.close();
  });
});

describe('provider', () => {
  test('its pause is shown with its reason', async () => {
    const watched = new Watched(fixture.db, { ...target, accounts: ['one m', 'two m'] }, { providerWaitSeconds: 5 });
    await watched.tick();
    expect(watched.signal('provider_wait')).toMatchObject({ state: 'fine', value: 0 });
    await fixture.db.query(`INSERT INTO freshvec.account (account) VALUES ('two m')`);
    await fixture.db.query(`SELECT freshvec.refuse_budget('two m', 60, true, 'HTTP 429')`);
    await watched.tick();
    expect(watched.signal('provider_wait')).toMatchObject({ state: 'pressed', note: 'HTTP 429' });
    expect(watched.share).toBe(0.5);
    await fixture.db.query(`UPDATE freshvec.account SET resumes_at = now() WHERE account = 'two m'`);
    await watched.until('provider_wait', { state: 'fine' });
    await watched.close();
  });

  test('a model that runs here has none', async () => {
    const watched = new Watched(fixture.db, target, { providerWaitSeconds: 5 });
    await watched.tick();
    expect(watched.signals.map(({ name }) => name)).toEqual(['database_size']);
    await watched.close();
  });
});

describe('the throttle', () => {
  test('at rest nothing is pressed or unknown by the defaults, and every reason is a sentence otherwise', async () => {
    const throttle = createThrottle(fixture.db, { ...THROTTLE_DEFAULTS, transactionSeconds: 86_400 }, target);
    await throttle.tick(0.5);
    const { signals } = await throttle.tick(0.5);
    expect(signals.map(({ name }) => name)).toEqual([
      'replica_lag',
      'replica_lag_bytes',
      'slot_wal',
      'wal_rate',
      'checkpoints',
      'lock_waiters',
      'lock_wait',
      'transaction_age',
      'xmin_age',
      'vacuum',
      'dead_rows',
      'edits_waiting',
      'vector_index',
      'disk_used',
      'app_latency',
    ]);
    expect(signals.filter(({ state }) => state === 'unknown')).toEqual([]);
    await throttle.close();
    const full = createThrottle(fixture.db, { ...THROTTLE_DEFAULTS, maxDatabaseBytes: 2 ** 20 }, target);
    const { signals: pressed } = await full.tick(1);
    expect(throttleReasons(pressed).join('\n')).toMatch(
      /^database_size [\d.]+ MiB \(at most 972\.8 KiB\): throttle\.maxDatabaseBytes is 1048576, and over it the backfill rests$/m,
    );
    await full.close();
  });

  test('a database that is away makes everything unknown, and no tick throws', async () => {
    const gone = await openDatabase({
      kind: 'postgres',
      url: 'postgres://nobody@127.0.0.1:1/none',
      poolSize: 1,
      applicationName: 'gone',
      reachMs: 10,
      onError: () => {},
    });
    const watched = new Watched(gone, target, { lockWaiters: 1, vacuum: true, maxDatabaseBytes: 1 });
    await watched.tick();
    expect(watched.signals.map(({ state }) => state)).toEqual(['unknown', 'unknown', 'unknown']);
    expect(watched.share).toBe(0.5);
    await watched.close();
    await gone.close();
  });

  test('one that does not answer is not waited for, nor asked once more beside that', async () => {
    const { url } = fixture;
    const options = { kind: 'postgres', url, poolSize: 1, applicationName: 'stuck', onError: () => {} } as const;
    const db = await openDatabase(options);
    const watched = new Watched(db, target, { lockWaiters: 1, vacuum: true });
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    // The only connection is taken; kept busy, since one that idles in a transaction is ended.
    const busy = db.tx(async (tx) => {
      const free = held.then(() => 'free' as const);
      while ((await Promise.race([free, tx.query('SELECT pg_sleep(0.1)')])) !== 'free');
    });
    await watched.tick();
    expect(watched.signals.map(({ state }) => state)).toEqual(['unknown', 'unknown', 'unknown']);
    expect(watched.signals.map(({ note }) => note)).toContain('not answered within 5000 ms');
    release();
    await busy;
    await watched.until('lock_waiters', { state: 'fine' });
    await watched.until('database_size', { state: 'fine' });
    await watched.close();
    await db.close();
  });

  test('the embedded database has no replicas, waiters or vacuums to look at', async () => {
    const embedded = await openFixture('pglite');
    const throttle = createThrottle(embedded.db, { ...THROTTLE_DEFAULTS, maxDatabaseBytes: 2 ** 40 }, target);
    const { share, signals } = await throttle.tick(0.25);
    expect(signals).toMatchObject(
      ['edits_waiting', 'vector_index', 'database_size'].map((name) => ({ name, state: 'fine' })),
    );
    expect(share).toBe(0.5);
    await throttle.close();
    await embedded.close();
  });
});

test('PostgreSQL 15 and 16 count checkpoints elsewhere', async () => {
  const old = await openFixture();
  try {
    await old.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
    const { source } = await old.add({
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      index: 'none',
    });
    // The catalog as it was then.
    await old.db.exec(`SET allow_system_table_mods = on;
      ALTER VIEW pg_catalog.pg_stat_checkpointer RENAME TO pg_stat_checkpointer_17;
      ALTER VIEW pg_catalog.pg_stat_bgwriter RENAME TO pg_stat_bgwriter_17;
      CREATE VIEW pg_catalog.pg_stat_bgwriter AS SELECT 7::int8 AS checkpoints_req;
      RESET allow_system_table_mods`);
    const watched = new Watched(old.db, { source }, { requestedCheckpoints: 1 });
    await watched.tick();
    await watched.tick();
    expect(watched.signal('checkpoints')).toMatchObject({ state: 'fine', value: 0 });
    expect(watched.share).toBe(1);
    await watched.close();
  } finally {
    await old.close();
  }
});
