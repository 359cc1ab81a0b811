import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { getMigration, type Migration } from '../../src/catalog/migration.js';
import { type Client, createClient } from '../../src/index.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { start } from '../reembed/support.js';
import { asAdmin } from '../support/admin.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { type PostgresServer, startPostgres } from '../support/servers.js';
import { builder, openTransaction } from './index-builds.js';
import { drained, heldNow } from './migrating.js';
import { expectFresh } from './rows.js';
import { ensureBuilt } from './support/build.js';
import { Fleet } from './support/workers.js';

const TIMEOUT_MS = 400_000;
const ROWS = 3000;
const BURST = 600;
const PAUSE_MS = 20;
/** Backends that have moved the migration, and wait for the row that searches go by. */
const SWITCHING = `SELECT count(*) AS n FROM pg_stat_activity
  WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE freshvec.pointer SET epoch%'`;

let server: PostgresServer;
let fixture: Fixture;
let fleet: Fleet;
let client: Client;

beforeAll(async () => {
  await ensureBuilt();
  // Durable: what was committed is there after a crash, as in production.
  server = await startPostgres({ durable: true });
  await asAdmin(server.url, (admin) => admin.query('CREATE EXTENSION vector'));
  fixture = await openFixture('postgres', { url: server.url, name: 'postgres', drop: async () => {} });
  // Slow enough to be met half-way.
  const env = { DATABASE_URL: server.url, FRESHVEC_BATCH_KEYS: '50', FRESHVEC_FAKE_LATENCY_MS: '30' };
  fleet = new Fleet(env);
  client = createClient({ env, configFile: false, onError: () => {} });
}, 180_000);

afterAll(async () => {
  await fleet?.close();
  await client?.close();
  await fixture?.close();
  await server?.stop('immediate');
}, 60_000);

let crashes = 0;

/** The server dies without a checkpoint, whatever runs there, and comes back. */
async function crash(): Promise<void> {
  crashes += 1;
  await server.restart('immediate');
}

/** Asks again until the database answers. */
function answered<T>(what: string, ask: () => Promise<T>): Promise<NonNullable<T>> {
  return eventually(ask, { timeoutMs: 120_000, intervalMs: PAUSE_MS, what }) as Promise<NonNullable<T>>;
}

async function count(sql: string): Promise<number> {
  const [row] = await fixture.db.query<{ n: number }>(sql);
  return row?.n ?? 0;
}

/** How many edits were acknowledged: those must not be lost. */
function keepEditing(url: string) {
  const stop = new AbortController();
  const acknowledged = new Map<number, string>();
  const loop = (async () => {
    for (let turn = 0; !stop.signal.aborted; turn++) {
      const one = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
      one.on('error', () => {});
      try {
        await one.connect();
        while (!stop.signal.aborted) {
          const id = 1 + ((turn * 37) % ROWS);
          const body = `edit ${turn} of ${id}`;
          await one.query('UPDATE doc SET body = $2 WHERE id = $1', [id, body]);
          acknowledged.set(id, body);
          turn += 1;
          await sleep(PAUSE_MS, undefined, { signal: stop.signal }).catch(() => {});
        }
      } catch {
        await sleep(PAUSE_MS);
      } finally {
        await one.end().catch(() => {});
      }
    }
  })();
  return {
    acknowledged,
    async stop() {
      stop.abort();
      await loop;
    },
  };
}

/** Searches all the while; one that fails because the server is away does not count. */
function keepSearching() {
  const stop = new AbortController();
  const models = new Map<number, Set<string>>();
  const loop = (async () => {
    for (let turn = 0; !stop.signal.aborted; turn++) {
      try {
        const { epoch, results } = await client.search('doc', { text: `text ${turn % ROWS}`, k: 5 });
        const seen = models.get(epoch) ?? new Set();
        models.set(epoch, seen);
        for (const { model } of results) seen.add(model);
      } catch {
        // Away.
      }
      await sleep(PAUSE_MS, undefined, { signal: stop.signal }).catch(() => {});
    }
  })();
  return {
    models,
    async stop() {
      stop.abort();
      await loop;
    },
  };
}

test(
  'fault 12: Postgres restarted with `immediate` during ingest, backfill, index build, cutover [C O X]',
  async ({ task }) => {
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, ${ROWS}) i`);
    const { space: old } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@64' });
    await fleet.start({ role: 'embed' });
    await fleet.start({ role: 'reembed' });
    const app = keepEditing(server.url);
    const searches = keepSearching();
    try {
      await answered('some rows fresh', async () => (await count('SELECT count(embedding) AS n FROM doc')) > 100);
      expect(await count('SELECT count(*) AS n FROM doc WHERE embedding IS NULL')).toBeGreaterThan(0);
      await crash();
      await answered(
        'all rows embedded',
        async () => (await count('SELECT count(*) AS n FROM doc WHERE embedding IS NULL')) === 0,
      );

      const { id } = await start(fixture, 'doc', { model: 'fake/b@64' });
      const migration = () => getMigration(db, id);
      const reached = (...states: Migration['state'][]) =>
        answered(states.join(), async () => {
          const now = await migration();
          if (now?.state === 'parked') throw new Error(`parked: ${now.reason}\n${fleet.logs()}`);
          return now && states.includes(now.state);
        });
      await answered(
        'a part of the backfill',
        async () => (await count('SELECT count(embedding_2) AS n FROM doc')) > 100,
      );
      expect((await migration())?.state).toBe('backfilling');
      // Somebody tends the table's indexes, crash or not, until a writer is there that holds the build.
      await db.exec(
        `INSERT INTO freshvec.singleton SELECT 'index:' || 'doc'::regclass::oid, gen_random_uuid(), 'infinity'`,
      );
      await crash();
      await reached('indexing');
      const writer = await openTransaction(
        server.url,
        'BEGIN',
        `INSERT INTO doc VALUES (${ROWS + 1}, 'never committed')`,
      );
      await db.exec(`DELETE FROM freshvec.singleton WHERE name LIKE 'index:%'`);
      const build = await answered('a build that waits for the writer', () => builder(db));
      expect(build.phase).toBe('waiting for writers before build');
      await crash();
      await writer.end().catch(() => {});
      // Half an index is left, which is built anew.
      await reached('ready');

      const epoch = async () => (await db.query<{ epoch: number }>('SELECT epoch FROM freshvec.pointer'))[0]?.epoch;
      // In the midst of the switch, which waits for the pointer: nothing of it is left.
      const holder = await openTransaction(server.url, 'BEGIN', 'SELECT FROM freshvec.pointer FOR UPDATE');
      const switching = client.reembed.cutover('doc').catch((error: unknown) => error);
      await answered('a switch that waits', async () => (await count(SWITCHING)) > 0);
      await crash();
      await holder.end().catch(() => {});
      expect(await switching).toBeInstanceOf(Error);
      expect(await answered('the pointer', epoch)).toBe(1);
      expect((await migration())?.state).toBe('ready');
      await answered('the switch', async () => (await client.reembed.cutover('doc')).state === 'soaking');
      expect(await epoch()).toBe(2);
      // Beside the index these are written by a few rows at a time, and only the last commit of a batch waits for the disk.
      await db.query("UPDATE doc SET body = 'burst of ' || id WHERE id <= $1", [BURST]);
      const written = 'SELECT count(*) AS n FROM doc WHERE embedding_2_hash = md5(body)::uuid';
      await answered('a part of the burst', async () => (await count(`${written} AND id <= ${BURST}`)) > BURST / 20);
      await crash();
      await answered('the way back', async () => (await client.reembed.rollback('doc')).state === 'rolled_back');
      expect(await epoch()).toBe(3);

      await app.stop();
      const to = (await migration())?.toSpaceId ?? 0;
      await drained(fixture, [{ id: old.id }, { id: to }]);
      for (const spaceId of [old.id, to]) {
        const held = await heldNow(fixture, 'doc', spaceId);
        await expectFresh(fixture, held, { text: 'body' });
      }
      // The old space's is maintenance's, which does not run here.
      const built = await heldNow(fixture, 'doc', to);
      expect(await indexState(db, built.source, built.space)).toBe('valid');
      expect(await count('SELECT count(*) AS n FROM pg_index i WHERE NOT i.indisvalid')).toBe(0);
      const rows = await db.query<{ id: number; body: string }>('SELECT id, body FROM doc');
      const bodies = new Map(rows.map((row) => [row.id, row.body]));
      for (const [key, body] of app.acknowledged) {
        // A later edit may have been done without its answer.
        if (bodies.get(key) !== body) expect(bodies.get(key)).toMatch(new RegExp(`^(edit \\d+|burst) of ${key}$`));
      }
      expect(app.acknowledged.size).toBeGreaterThan(50);
    } finally {
      task.meta.tries = crashes;
      await app.stop();
      await searches.stop();
    }
    for (const [of, models] of searches.models) expect([of, models.size]).toEqual([of, models.size === 0 ? 0 : 1]);
    expect(searches.models.size).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
