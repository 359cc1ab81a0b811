import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { getMigration, type Migration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { type Client, createClient } from '../../src/index.js';
import * as control from '../../src/reembed/control.js';
import { start } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { drained, heldNow } from './migrating.js';
import { expectFresh } from './rows.js';
import { ensureBuilt } from './support/build.js';
import { eachTry } from './support/tries.js';
import { Fleet } from './support/workers.js';

const TIMEOUT_MS = 400_000;
const ROWS = { text: 'body', where: 'NOT hidden' };

/** Statements of a day, and of the day after. */
const DAY = 300;
const NEXT_DAY = 120;

const SHAPES: readonly { from: StoreKind; to: StoreKind; partitions: number }[] = [
  { from: 'column', to: 'column', partitions: 3 },
  { from: 'table', to: 'table', partitions: 0 },
  { from: 'column', to: 'table', partitions: 0 },
];

beforeAll(ensureBuilt, 180_000);

describe('fault 28: rollback after a day of edits, inserts and deletes [R X]', () => {
  let fixture: Fixture;
  let fleet: Fleet;
  let client: Client;
  beforeEach(async () => {
    fixture = await openFixture();
    const env = { DATABASE_URL: fixture.url, FRESHVEC_BATCH_KEYS: '20' };
    fleet = new Fleet(env);
    client = createClient({ env, configFile: false, onError: () => {} });
  });
  afterEach(async () => {
    await fleet.close();
    await client.close();
    await fixture.close();
  });

  async function tableOf(partitions: number): Promise<void> {
    const { db } = fixture;
    const columns = 'id bigint PRIMARY KEY, body text, hidden boolean NOT NULL DEFAULT false';
    await db.exec(`CREATE TABLE doc (${columns}) ${partitions > 0 ? 'PARTITION BY HASH (id)' : ''}`);
    for (let i = 0; i < partitions; i++) {
      await db.exec(`CREATE TABLE doc_${i} PARTITION OF doc FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${i})`);
    }
    await db.exec(`INSERT INTO doc SELECT i, 'before ' || i, i % 10 = 0 FROM generate_series(1, 300) i`);
  }

  async function state(id: number, ...states: Migration['state'][]): Promise<void> {
    const reached = async () => states.includes((await getMigration(fixture.db, id))?.state ?? 'planned');
    await eventually(reached, { timeoutMs: 120_000, intervalMs: 50, what: states.join() }).catch(async (error) => {
      const now = await getMigration(fixture.db, id);
      throw new Error(`${now?.state}: ${now?.reason}\n${JSON.stringify(now?.gates)}\n${fleet.logs()}`, {
        cause: error,
      });
    });
  }

  test(
    'the old space is fresh at once, and so is the new one at the next switch; no search meets two models',
    async (context) => {
      const { db } = fixture;
      await eachTry(context, SHAPES, async ({ from, to, partitions }, attempt) => {
        await tableOf(partitions);
        await fixture.add({
          table: 'doc',
          content: { columns: ['body'] },
          model: 'fake/a@8',
          store: from,
          where: 'NOT hidden',
        });
        if (attempt === 0) {
          await fleet.start({ role: 'embed' });
          await fleet.start({ role: 'embed' });
          await fleet.start({ role: 'reembed' });
        }
        const { id, fromSpaceId, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', store: to });
        await state(id, 'ready');
        const spaces = [{ id: fromSpaceId }, { id: toSpaceId }];
        const fresh = async (spaceId: number) => expectFresh(fixture, await heldNow(fixture, 'doc', spaceId), ROWS);
        const searches = keepSearching(client);
        const app = await openApp(fixture.url, attempt);
        try {
          await control.cutover(db, 'doc');
          await app.live(DAY);
          await quiet(spaces);
          await control.rollback(db, 'doc');
          await fresh(fromSpaceId);
          await fresh(toSpaceId);
          await searches.afresh();

          // The next day people cannot make up their minds, while the app goes on.
          const day = app.live(NEXT_DAY);
          for (const turn of [control.cutover, control.rollback, control.cutover, control.rollback]) {
            await searches.afresh();
            await turn(db, 'doc');
          }
          await day;
          await quiet(spaces);
          await control.cutover(db, 'doc');
          await fresh(toSpaceId);
          await fresh(fromSpaceId);
          await searches.afresh();
        } finally {
          await app.end();
          await searches.stop();
        }
        expect(app.failures).toEqual([]);
        searches.assertUnmixed(await fingerprints(spaces.map((space) => space.id)));
        await control.complete(db, 'doc');
        await state(id, 'done');
        await fresh(toSpaceId);
        await db.exec('DROP TABLE doc CASCADE; DELETE FROM freshvec.source');
      });
    },
    TIMEOUT_MS,
  );

  /** What the workers wrote belongs to the failure. */
  const quiet = (spaces: readonly { id: number }[]) =>
    drained(fixture, spaces).catch((error: unknown) => {
      throw new Error(`${error instanceof Error ? error.message : error}\n${fleet.logs()}`, { cause: error });
    });

  async function fingerprints(ids: readonly number[]): Promise<[string, string]> {
    const [old, fresh] = await Promise.all(
      ids.map(async (id) => (await heldNow(fixture, 'doc', id)).space.fingerprint),
    );
    return [old ?? '', fresh ?? ''];
  }
});

/** Asks all the while for what a row says, through the SDK. */
function keepSearching(client: Client) {
  const stop = new AbortController();
  const models = new Map<number, Set<string>>();
  let done = 0;
  const failures: unknown[] = [];
  const loop = (async () => {
    while (!stop.signal.aborted) {
      try {
        const { epoch, results } = await client.search('doc', { text: `before ${done % 300}`, k: 5 });
        const seen = models.get(epoch) ?? new Set();
        models.set(epoch, seen);
        for (const { model } of results) seen.add(model);
      } catch (error) {
        failures.push(error);
      }
      done += 1;
      await sleep(20, undefined, { signal: stop.signal }).catch(() => {});
    }
  })();
  return {
    /** Resolves when a search that begins now has ended. */
    async afresh() {
      const until = done + 2;
      await eventually(() => done >= until, { timeoutMs: 30_000, what: 'a search' });
    },
    async stop() {
      stop.abort();
      await loop;
    },
    /** X: one model under each epoch, the old one's under the odd ones. */
    assertUnmixed([old, fresh]: [string, string]) {
      expect(failures).toEqual([]);
      const seen = [...models].filter(([, of]) => of.size > 0);
      expect(seen.length).toBeGreaterThanOrEqual(4);
      for (const [epoch, of] of seen) expect([epoch, ...of]).toEqual([epoch, epoch % 2 === 1 ? old : fresh]);
    },
  };
}

/** One connection that does what apps do, in an order that depends on the seed only. */
async function openApp(url: string, seed: number) {
  const client = new pg.Client({ connectionString: url, application_name: 'app', options: '-c lock_timeout=2000' });
  client.on('error', () => {});
  await client.connect();
  const failures: string[] = [];
  let serial = 0;
  let random = seed * 7919 + 1;
  const pick = (n: number) => {
    random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((random / 2 ** 32) * n);
  };
  const next = (): string => {
    serial += 1;
    const id = pick(400) + 1;
    const other = pick(400) + 1;
    const text = `written ${seed} ${serial}`;
    const kinds = [
      () => `INSERT INTO doc VALUES (${id}, '${text}') ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
      () => `UPDATE doc SET body = '${text}' WHERE id = ${id}`,
      () => `UPDATE doc SET body = '${text}' WHERE id = 1`,
      () => `UPDATE doc SET body = body || '.' WHERE id BETWEEN ${id} AND ${id + 15}`,
      () => `UPDATE doc SET body = 'before ' || id WHERE id = ${id}`,
      // Another key, in another partition perhaps; a key that was used comes back for another text.
      () => `UPDATE doc SET id = ${1_000 + serial} WHERE id = ${id}`,
      () => `UPDATE doc SET id = ${other} WHERE id = ${id} AND NOT EXISTS (SELECT FROM doc WHERE id = ${other})`,
      () => `UPDATE doc SET hidden = NOT hidden WHERE id BETWEEN ${id} AND ${id + 5}`,
      () => `UPDATE doc SET body = ${pick(2) === 0 ? 'NULL' : `' '`} WHERE id = ${id}`,
      () => `DELETE FROM doc WHERE id BETWEEN ${id} AND ${id + pick(4)}`,
      () => `INSERT INTO doc SELECT ${10_000 * serial} + i, '${text} ' || i FROM generate_series(1, 8) i`,
      () => `BEGIN; DELETE FROM doc WHERE id = ${id}; INSERT INTO doc VALUES (${id}, '${text}'); COMMIT`,
      () => `BEGIN; UPDATE doc SET body = '${text}' WHERE id = ${id}; ROLLBACK`,
    ];
    return kinds[pick(kinds.length)]?.() ?? '';
  };
  return {
    failures,
    /** Does so many statements, and one import. */
    async live(statements: number) {
      for (let done = 0; done < statements; done++) {
        const bulk = `INSERT INTO doc SELECT ${1_000_000 * (serial + 1)} + i, 'import ${seed} ${serial} ' || i FROM generate_series(1, 1100) i`;
        const sql = done === Math.floor(statements / 2) ? bulk : next();
        await client.query(sql).catch((error: unknown) => failures.push(`${sql}: ${error}`));
      }
    },
    end: () => client.end(),
  };
}
