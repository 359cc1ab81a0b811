import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { THROTTLE_DEFAULTS } from '../../src/config/throttle.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { createThrottle } from '../../src/reembed/throttle/create-throttle.js';
import { throttleReasons } from '../../src/reembed/throttle/describe.js';
import { asAdmin } from '../support/admin.js';
import { eventually } from '../support/eventually.js';
import { type Replica, startReplica } from '../support/replica.js';
import { type PostgresServer, startPostgres } from '../support/servers.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';
import { eachTry } from './support/tries.js';

/** How a signal's source goes away and comes back, and by which word the reason names it. */
interface Loss {
  readonly named: RegExp;
  lose(): Promise<unknown>;
  restore(): Promise<unknown>;
}

describe('fault 48: the source of a throttle signal is gone [slows down, Q]', () => {
  let server: PostgresServer;
  let replica: Replica;
  beforeAll(async () => {
    server = await startPostgres();
    replica = await startReplica(server.url, { name: 'reads', slot: 'reads' });
    await asAdmin(server.url, (admin) => admin.query('CREATE ROLE watcher LOGIN IN ROLE pg_monitor'));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await replica?.stop();
    await server?.stop();
  });

  test(
    'the backfill’s share falls, the reason is named, and the app notices nothing',
    async (context) => {
      await withSystem({ postgresUrl: server.url }, async (system) => {
        const losses = lossesOf(system.db, replica);
        await system.workers.start();
        system.app.start();
        const url = new URL(system.url);
        url.username = 'watcher'; // No superuser: for one there is no view that may not be read.
        const options = { kind: 'postgres', url: url.href, poolSize: 2, applicationName: 'throttle' } as const;
        const db = await openDatabase({ ...options, onError: () => {} });
        await db.query('SELECT 1');
        try {
          await eachTry(context, Object.keys(losses), async (what) => {
            const loss = losses[what];
            if (!loss) throw new Error(what);
            await slowsDownFor(loss, system, db);
          });
        } finally {
          await db.close();
        }
        await system.app.stop();
        system.app.assertUndisturbed();
      });
    },
    TIMEOUT_MS,
  );
});

function lossesOf(db: Database, replica: Replica): Readonly<Record<string, Loss>> {
  return {
    'the replica is killed': {
      named: /^replica_lag unknown: the replica "reads" went away/m,
      lose: () => replica.down('kill'),
      restore: () => replica.up(),
    },
    'its view may not be read': {
      named: /^replica_lag unknown: permission denied for view pg_stat_replication/m,
      lose: () => db.exec('REVOKE SELECT ON pg_catalog.pg_stat_replication FROM PUBLIC, pg_monitor'),
      restore: () => db.exec('GRANT SELECT ON pg_catalog.pg_stat_replication TO PUBLIC'),
    },
    'its function may not be called': {
      named: /^replica_lag unknown: permission denied for function pg_stat_get_wal_senders/m,
      lose: () => db.exec('REVOKE EXECUTE ON FUNCTION pg_catalog.pg_stat_get_wal_senders() FROM PUBLIC'),
      restore: () => db.exec('GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_get_wal_senders() TO PUBLIC'),
    },
  };
}

/** At the throttle's seam: the controller's calls, without its migration. The engine's own test is with the engine. */
async function slowsDownFor({ named, lose, restore }: Loss, system: System, db: Database): Promise<void> {
  // Only of what is lost: the machine that runs this is pressed in other ways.
  const settings = {
    ...THROTTLE_DEFAULTS,
    replicaLagSeconds: 3_600,
    lockWaitMs: null,
    probeMs: null,
    vacuum: false,
    requestedCheckpoints: null,
    // The watcher has no business in freshvec's tables.
    editWaitSeconds: null,
    indexedShare: null,
  };
  const [row] = await system.db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid AS oid`);
  const relation = { oid: row?.oid ?? 0, schema: 'public', table: 'doc' };
  const throttle = createThrottle(db, settings, { source: { id: 0, relation, key: [{ name: 'id', type: 'bigint' }] } });
  let share = 1;
  const shares: number[] = [];
  const tick = async () => {
    const next = await throttle.tick(share);
    share = next.share;
    shares.push(share);
    return throttleReasons(next.signals).join('\n');
  };
  const statements = () => system.app.statements.length;
  try {
    await eventually(async () => (await tick()) === '' && share === 1, {
      timeoutMs: 30_000,
      what: 'an unthrottled backfill',
    });
    await lose();
    await eventually(async () => named.test(await tick()) && share === 0.1, {
      timeoutMs: 30_000,
      what: `${named}, at a tenth`,
    });
    expect(shares).toEqual(expect.arrayContaining([0.5, 0.25, 0.125, 0.1]));
    const slow = statements();
    await eventually(() => statements() >= slow + 20, { timeoutMs: 30_000, what: 'the app to go on' });
    for (let i = 0; i < 5; i++) await tick();
    expect(share).toBe(0.1); // Slower, but not at rest, and no faster as long as nobody knows.
  } finally {
    await restore();
  }
  await eventually(async () => (await tick()) === '' && share === 1, {
    timeoutMs: 30_000,
    what: 'the full speed again',
  });
  await throttle.close();
}
