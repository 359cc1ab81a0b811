import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../../../src/db/database.js';
import { openDatabase } from '../../../src/db/open.js';
import type { ThrottleTarget } from '../../../src/reembed/throttle/create-throttle.js';
import { asAdmin } from '../../support/admin.js';
import { eventually } from '../../support/eventually.js';
import { startLogicalReader, startReceiver } from '../../support/receiver.js';
import { type Replica, startReplica } from '../../support/replica.js';
import { type PostgresServer, startPostgres } from '../../support/servers.js';
import { Watched } from './support.js';

let server: PostgresServer;
let replica: Replica;
let db: Database;
let target: ThrottleTarget;

const open = (url: string) =>
  openDatabase({ kind: 'postgres', url, poolSize: 2, applicationName: 'throttle', onError: () => {} });

beforeAll(async () => {
  // Little WAL between checkpoints, which do not come by the clock.
  const wal = { max_wal_size: '48MB', min_wal_size: '32MB', checkpoint_timeout: '1h' };
  server = await startPostgres({ settings: { ...wal, wal_level: 'logical', max_prepared_transactions: 2 } });
  const settings = { hot_standby_feedback: 'on', wal_receiver_status_interval: 1 };
  replica = await startReplica(server.url, { name: 'near by', slot: 'near', settings });
  db = await open(server.url);
  await db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
  const [row] = await db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid AS oid`);
  const relation = { oid: row?.oid ?? 0, schema: 'public', table: 'doc' };
  target = { source: { id: 0, relation, key: [{ name: 'id', type: 'integer' }] } };
}, 120_000);
afterAll(async () => {
  await db?.close();
  await replica?.stop();
  await server?.stop();
});

/** Writes so many MB of WAL. */
async function write(megabytes: number, into = db): Promise<void> {
  for (let i = 0; i < megabytes; i++) {
    await into.query(`SELECT pg_logical_emit_message(true, 'test', repeat('x', 1048576))`);
  }
}

describe('replica lag', () => {
  test('in seconds and bytes, of a replica that replays no more: slower, then at rest, then on again', async () => {
    const watched = new Watched(db, target, { replicaLagSeconds: 0.2, replicaLagBytes: 2 ** 20 });
    await replica.caughtUp();
    await watched.until('replica_lag', { state: 'fine', note: 'replica "near by"' });
    await watched.untilShare(1);
    await replica.pause();
    await write(3);
    const behind = await watched.until('replica_lag_bytes', { state: 'pressed' });
    expect(behind).toMatchObject({ note: 'replica "near by"', unit: 'bytes' });
    expect(behind.value).toBeGreaterThanOrEqual(3 * 2 ** 20);
    // Nothing is written meanwhile: what it has not replayed grows older all the same, to ten times the bound.
    await watched.untilShare(0);
    expect(watched.signal('replica_lag').state).toBe('pressed');
    await replica.resume();
    await replica.caughtUp();
    await watched.until('replica_lag', { state: 'fine' });
    await watched.until('replica_lag_bytes', { state: 'fine' });
    await watched.untilShare(1);
    await watched.close();
  });

  test('of a replica that is delayed on purpose', async () => {
    await replica.pause();
    const watched = new Watched(db, target, { replicaLagBytes: 2 ** 20, ignoreReplicas: ['near by'] });
    await write(2);
    await watched.tick();
    expect(watched.signal('replica_lag_bytes')).toMatchObject({ state: 'fine', note: 'no replica is connected' });
    await replica.resume();
    await watched.close();
  });
});

describe('who receives WAL and replays none', () => {
  /** For so long the position of one that speaks of it every ten seconds, or less, stands still. In ms. */
  const STILL_MS = 4_000;

  async function connected(name: string, position: string): Promise<void> {
    const there = async () =>
      (
        await db.query(`SELECT FROM pg_stat_replication WHERE application_name = $1 AND ${position} IS NOT NULL`, [
          name,
        ])
      ).length > 0;
    await eventually(there, { timeoutMs: 30_000, what: `${name} to say how far it is` });
  }

  /** Watches with a bound that is passed ten times over meanwhile, beside a replica that is there. */
  async function neverPressed(name: string, inSeconds: string): Promise<void> {
    const watched = new Watched(db, target, { replicaLagSeconds: STILL_MS / 20_000, replicaLagBytes: 2 ** 30 });
    await watched.until('replica_lag', { state: 'fine', note: inSeconds });
    await watched.untilShare(1);
    await write(3);
    await replica.caughtUp();
    await watched.until('replica_lag', { state: 'fine' });
    for (const end = Date.now() + STILL_MS; Date.now() < end; await sleep(100)) {
      await watched.tick();
      // The replica itself may be slow for a moment on a busy machine, but nobody stops.
      expect(watched.share).toBeGreaterThan(0);
    }
    expect(watched.signal('replica_lag')).toMatchObject({ state: 'fine', note: inSeconds });
    expect(watched.signal('replica_lag_bytes').note).toBe(
      `"${name}", which only receives WAL: what its slot keeps is slot_wal's`,
    );
    await watched.close();
  }

  test('an archive: by bytes, not by seconds', async (context) => {
    await db.query(`SELECT pg_create_physical_replication_slot('archive', true)`);
    const receiver = await startReceiver(server.url, 'archive');
    if (!receiver) return context.skip('pg_receivewal is not at hand where servers run in containers');
    try {
      await connected('archive', 'write_lsn');
      await neverPressed('archive', 'replica "near by"');
    } finally {
      await receiver.stop();
    }
    const watched = new Watched(db, target, { replicaLagSeconds: 60 });
    await watched.until('replica_lag', { state: 'fine', note: 'replica "near by"' });
    await watched.close();
    await db.query(`SELECT pg_drop_replication_slot('archive')`);
  }, 60_000);

  test('a reader of a logical slot: the same', async () => {
    await db.query(`SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')`);
    const reader = await startLogicalReader(server.url, 'cdc');
    try {
      await connected('cdc', 'replay_lsn');
      await neverPressed('cdc', 'replica "near by"');
    } finally {
      await reader.stop();
    }
    const gone = () => db.query(`SELECT pg_drop_replication_slot('cdc')`).then(() => true);
    await eventually(gone, { what: 'the end of the slot' });
  }, 60_000);
});

describe('a replica that goes away', () => {
  test('is unknown until it comes back; its slot says what it must be sent', async () => {
    const watched = new Watched(db, target, { replicaLagSeconds: 60, slotBytes: 2 ** 20 });
    await replica.caughtUp();
    await watched.until('replica_lag', { state: 'fine', note: 'replica "near by"' });
    await replica.down('immediate');
    const { note } = await watched.until('replica_lag', { state: 'unknown' });
    expect(note).toMatch(/^the replica "near by" went away \d+ s ago.*it is waited for 600 s/);
    await watched.untilShare(0.1);
    await write(2);
    const slot = await watched.until('slot_wal', { state: 'pressed' });
    expect(slot.note).toMatch(/^the slot "near" keeps it; nobody reads it/);
    await write(10);
    await watched.untilShare(0);
    await replica.up();
    await replica.caughtUp();
    await watched.until('replica_lag', { state: 'fine' });
    await watched.until('slot_wal', { state: 'fine' });
    await watched.untilShare(1);
    await watched.close();
  });

  test('is forgotten when it stays away', async () => {
    const watched = new Watched(db, target, { replicaLagSeconds: 60, replicaGoneSeconds: 0.5 });
    await watched.until('replica_lag', { state: 'fine', note: 'replica "near by"' });
    await replica.down();
    await watched.until('replica_lag', { state: 'unknown' });
    await watched.until('replica_lag', { state: 'fine', note: 'no replica is connected' });
    await replica.up();
    await watched.until('replica_lag', { note: 'replica "near by"' });
    await watched.close();
  });
});

describe('what keeps dead rows', () => {
  test('a prepared transaction', async () => {
    const watched = new Watched(db, target, { transactionSeconds: 0.001, xminAge: 20 });
    await asAdmin(server.url, async (admin) => {
      await admin.query(`BEGIN; INSERT INTO doc VALUES (-1, 'x'); PREPARE TRANSACTION 'forgotten'`);
    });
    const { note } = await watched.until('transaction_age', { state: 'pressed' });
    expect(note).toMatch(/^the prepared transaction 'forgotten' keeps dead rows/);
    for (let i = 0; i < 25; i++) await db.query('SELECT pg_current_xact_id()::text');
    expect((await watched.until('xmin_age', { state: 'pressed' })).note).toMatch(/'forgotten'/);
    await asAdmin(server.url, (admin) => admin.query(`ROLLBACK PREPARED 'forgotten'`));
    await watched.until('transaction_age', { state: 'fine' });
    await watched.close();
  });

  test('a query on a replica that gives feedback, through its slot', async () => {
    const watched = new Watched(db, target, { xminAge: 20 });
    await asAdmin(replica.url, async (reader) => {
      await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
      const older = async () => {
        await db.query('SELECT pg_current_xact_id()::text');
        await watched.tick();
        return watched.signal('xmin_age').state === 'pressed';
      };
      await eventually(older, { timeoutMs: 30_000, what: 'an xmin that a replica holds back' });
      expect(watched.signal('xmin_age').note).toMatch(/^the replication slot "near" keeps dead rows/);
    });
    await watched.until('xmin_age', { state: 'fine' });
    await watched.close();
  });
});

describe('WAL', () => {
  test('a slot that is about to lose it: at rest, however little it is', async () => {
    // A server of its own, where no checkpoint comes: one would take the WAL away at once.
    const settings = { max_slot_wal_keep_size: '1MB', checkpoint_timeout: '1h', max_wal_size: '4GB' };
    const strict = await startPostgres({ settings });
    const other = await open(strict.url);
    const watched = new Watched(other, target, { slotBytes: 2 ** 50 });
    try {
      await other.query(`SELECT pg_create_physical_replication_slot('abandoned', true)`);
      await watched.untilShare(1);
      await write(64, other);
      await watched.tick();
      expect(watched.signal('slot_wal')).toMatchObject({ state: 'pressed' });
      expect(watched.signal('slot_wal').note).toMatch(
        /^the slot "abandoned" keeps it, and is about to lose it.*nobody reads/,
      );
      expect(watched.share).toBe(0);
      await other.query(`SELECT pg_drop_replication_slot('abandoned')`);
      await watched.untilShare(1);
    } finally {
      await watched.close();
      await other.close();
      await strict.stop();
    }
  });

  test('its rate, over the last seconds', async () => {
    const watched = new Watched(db, target, { walBytesPerSecond: 2 ** 20 });
    await watched.tick();
    expect(watched.signal('wal_rate')).toMatchObject({ state: 'fine', value: null, note: 'a rate needs two readings' });
    expect(watched.share).toBe(1);
    await write(40);
    await watched.until('wal_rate', { state: 'pressed' });
    expect(watched.share).toBeLessThanOrEqual(0.5);
    await watched.until('wal_rate', { state: 'fine' }, 40_000);
    await watched.close();
  });

  test('checkpoints that come before their time slow down once each', async () => {
    const watched = new Watched(db, target, { requestedCheckpoints: 1 });
    await watched.tick();
    expect(watched.signal('checkpoints').value).toBe(null);
    let written = 0;
    const pressed = async () => {
      await write(8);
      written += 8;
      await watched.tick();
      return watched.signal('checkpoints').state === 'pressed';
    };
    await eventually(pressed, { timeoutMs: 40_000, what: 'two checkpoints that WAL asked for' });
    expect(written).toBeGreaterThan(16);
    expect(watched.signal('checkpoints')).toMatchObject({ bound: 1, unit: 'a minute' });
    expect(watched.signal('checkpoints').note).toMatch(/max_wal_size/);
    const once = async () => {
      const { share } = watched;
      const { value } = watched.signal('checkpoints');
      await watched.tick();
      if (watched.signal('checkpoints').value !== value) return false; // One more came to its end.
      expect(watched.share).toBe(share);
      return true;
    };
    expect(watched.share).toBeLessThan(1);
    await eventually(once, { what: 'a tick without a checkpoint, which changes nothing' });
    expect(watched.signal('checkpoints').state).toBe('pressed');
    await watched.close();
  });
});

describe('a role', () => {
  test('without pg_monitor does not know how far a replica is, or what other roles have open', async () => {
    await db.exec('CREATE ROLE watcher LOGIN');
    const url = new URL(server.url);
    url.username = 'watcher';
    const own = await open(url.href);
    const settings = {
      replicaLagSeconds: 60,
      transactionSeconds: 600,
      unknownStopsSeconds: 0.001,
      walDirectoryBytes: 2 ** 40,
    };
    const watched = new Watched(own, target, settings);
    for (let i = 0; i < 8; i++) await watched.tick();
    expect(watched.signals.map(({ name, state }) => `${name} ${state}`)).toEqual([
      'replica_lag unknown',
      'wal_directory unknown',
      'transaction_age unknown',
      'database_size fine',
    ]);
    expect(watched.signal('replica_lag').note).toMatch(
      /"near by" is: GRANT pg_monitor TO watcher, or set throttle\.replicaLagSeconds/,
    );
    expect(watched.signal('transaction_age').note).toMatch(/other roles' transactions: GRANT pg_monitor TO watcher/);
    expect(watched.signal('wal_directory').note).toMatch(/permission denied for function pg_ls_waldir/);
    // That is how things are set up, and no outage: slow, but not at rest.
    expect(watched.share).toBe(0.1);
    await db.exec('GRANT pg_monitor TO watcher');
    await watched.until('replica_lag', { state: 'fine' });
    await watched.until('transaction_age', { state: 'fine' });
    await watched.until('wal_directory', { state: 'fine' });
    await watched.untilShare(1);
    await watched.close();
    await own.close();
    await db.exec('DROP ROLE watcher');
  });

  test('without it sees a vacuum, waiters, slots and WAL all the same', async () => {
    await db.exec('CREATE ROLE plain LOGIN');
    const url = new URL(server.url);
    url.username = 'plain';
    const own = await open(url.href);
    await db.exec(`INSERT INTO doc SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i`);
    const watched = new Watched(own, target, {
      vacuum: true,
      lockWaiters: 1,
      slotBytes: 2 ** 50,
      walBytesPerSecond: 2 ** 50,
    });
    const done = asAdmin(server.url, async (admin) => {
      await admin.query('SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1');
      await admin.query('VACUUM (FREEZE) doc');
    }).catch(() => 'cancelled');
    const { note } = await watched.until('vacuum', { state: 'pressed' });
    expect(watched.signals.filter(({ state }) => state === 'unknown')).toEqual([]);
    await db.query('SELECT pg_cancel_backend($1)', [Number(/\d+/.exec(note ?? '')?.[0])]);
    expect(await done).toBe('cancelled');
    await watched.close();
    await own.close();
    await db.exec('DROP ROLE plain');
  });
});
