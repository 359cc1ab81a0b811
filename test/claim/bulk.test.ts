import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Space } from '../../src/catalog/space.js';
import { claimBulk } from '../../src/claim/claim-bulk.js';
import { lookForWork } from '../../src/claim/pending.js';
import { release, settle } from '../../src/claim/settle.js';
import type { Executor } from '../../src/db/database.js';
import { claimNext } from '../../src/stages/claim-next.js';
import { readPending, remainingKeys } from '../../src/status/pending.js';
import type { Store } from '../../src/store/port.js';
import { claimContext } from '../support/claim-context.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const ENGINES: readonly Engine[] = ['postgres', 'pglite'];

describe.each(ENGINES)('packs of changes on %s', (engine) => {
  let fixture: Fixture;
  let space: Space;
  let store: Store;
  beforeAll(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text, who text)');
    ({ space, store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      tenant: 'who',
      model: 'fake/p@8',
      store: 'table',
      index: 'none',
    }));
  });
  afterAll(() => fixture.close());
  beforeEach(() =>
    fixture.db.exec('TRUNCATE doc; TRUNCATE freshvec.change, freshvec.change_pack, freshvec.lease, freshvec.range'),
  );

  const pack = (keys: readonly string[], tx: Executor = fixture.db) =>
    tx.query('INSERT INTO freshvec.change_pack (space_id, keys, tenants) VALUES ($1, $2::text[], $2::text[])', [
      space.id,
      keys,
    ]);
  const single = (key: string, { lane = 1, force = false } = {}) =>
    fixture.db.query('INSERT INTO freshvec.change (space_id, lane, key, force) VALUES ($1, $2, $3, $4)', [
      space.id,
      lane,
      key,
      force,
    ]);
  const claim = (limit: number, { fromId = 0, token = randomUUID() as string, tx = fixture.db as Executor } = {}) =>
    claimBulk(tx, space.id, { token, worker: 'test', limit, fromId });
  const left = async () =>
    (await fixture.db.query<{ key: string }>('SELECT key FROM freshvec.change_key'))
      .map(({ key }) => Number(key))
      .sort(byValue);
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
  const keysOf = ({ leased }: { leased: readonly { key: string }[] }) =>
    leased.map(({ key }) => Number(key)).sort(byValue);
  const byValue = (a: number, b: number) => a - b;
  const context = (batchKeys: number) => claimContext(fixture.db, store, batchKeys);

  test('a claim takes what it needs of a pack; what is left keeps its place', async () => {
    await pack(range(1, 200));
    await pack(range(201, 300));
    const first = await claim(20);
    expect(keysOf(first)).toEqual(range(1, 20).map(Number));
    expect(first.more).toBe(true);
    expect(await left()).toEqual(range(21, 300).map(Number));
    // From where the first one stood: the rest of a pack is not behind the hint.
    const second = await claim(200, { fromId: first.lastId });
    expect(keysOf(second)).toEqual(range(21, 220).map(Number));
    const third = await claim(200, { fromId: second.lastId });
    expect(keysOf(third)).toEqual(range(221, 300).map(Number));
    expect(third.more).toBe(false);
    expect(await left()).toEqual([]);
    expect(await claim(200)).toEqual({ leased: [], more: false, lastId: 0 });
  });

  test('each key brings its tenant, and is of the bulk lane', async () => {
    await pack(['1', '2', '3']);
    await claim(2);
    await claim(2);
    expect(await fixture.db.query('SELECT key, tenant, lane FROM freshvec.lease ORDER BY key')).toEqual(
      ['1', '2', '3'].map((key) => ({ key, tenant: key, lane: 1 })),
    );
  });

  test('keys that were put back stand in one line with packs, the oldest first', async () => {
    await pack(['1', '2']);
    await single('3', { force: true });
    await pack(['4', '5']);
    expect(keysOf(await claim(3))).toEqual([1, 2, 3]);
    expect(await fixture.db.query('SELECT key FROM freshvec.lease WHERE force')).toEqual([{ key: '3' }]);
    expect(await left()).toEqual([4, 5]);
    await single('6');
    expect(keysOf(await claim(10))).toEqual([4, 5, 6]);
  });

  test('small packs in front of single keys are not passed over by the hint', async () => {
    for (const key of ['1', '2', '3']) await pack([key]);
    for (const key of range(4, 9)) await single(key);
    const first = await claim(20);
    expect(first.more).toBe(true);
    const second = await claim(20, { fromId: first.lastId });
    expect([...keysOf(first), ...keysOf(second)].sort(byValue)).toEqual(range(1, 9).map(Number));
  });

  test('a key that somebody holds is marked, and comes back when the lease ends', async () => {
    const token = randomUUID();
    await pack(['1', '2']);
    await claim(2, { token });
    await pack(['2', '3', '3']);
    expect(keysOf(await claim(10))).toEqual([3]);
    await fixture.db.tx((tx) =>
      settle(
        tx,
        space.id,
        token,
        ['1', '2'].map((key) => ({ key, end: 'done' })),
      ),
    );
    expect(await left()).toEqual([2]);
    expect(keysOf(await claim(10))).toEqual([2]);
  });

  test('a worker that stops gives back what it took', async () => {
    const token = randomUUID();
    await pack(range(1, 30));
    await claim(20, { token });
    await release(fixture.db, space.id, token);
    expect(await left()).toEqual(range(1, 30).map(Number));
    expect(keysOf(await claim(200))).toEqual(range(1, 30).map(Number));
  });

  test('edits come first, and a tenth of each claim is kept for packs', async () => {
    await pack(range(1, 300));
    for (const key of range(1000, 1099)) await single(key, { lane: 0 });
    const ours = context(50);
    for (const edits of [45, 45, 10]) {
      const taken = (await claimNext(ours, randomUUID()))?.keys.map(({ key }) => Number(key)) ?? [];
      expect(taken).toHaveLength(50);
      expect(taken.filter((key) => key >= 1000)).toHaveLength(edits);
    }
  });

  test('keys that waited are not kept waiting by packs and edits, nor these by them', async () => {
    for (let from = 1; from <= 5000; from += 200) await pack(range(from, from + 199));
    const waiting = (keys: readonly string[], at: string) =>
      fixture.db.query(
        `INSERT INTO freshvec.lease (space_id, key, lane, expires_at, since)
         SELECT $1, unnest($2::text[]), 0, now() + $3::interval, now()`,
        [space.id, keys, at],
      );
    const ours = context(50);
    const taken = async () => (await claimNext(ours, randomUUID()))?.keys.map(({ key }) => Number(key)) ?? [];
    await waiting(['9000'], '-1 s');
    expect(await taken()).toContain(9000);
    // Those go first whose time came first.
    await waiting(range(8000, 8059), '-1 s');
    await waiting(['9001'], '-2 s');
    await waiting(['9002'], '1 h');
    for (const key of range(6000, 6099)) await single(key, { lane: 0 });
    const counts: number[][] = [];
    for (let n = 0; n < 5; n += 1) {
      const keys = await taken();
      if (n === 0) expect(keys).toContain(9001);
      expect(keys).not.toContain(9002);
      const of = (from: number, to: number) => keys.filter((key) => key >= from && key <= to).length;
      counts.push([of(6000, 6099), of(8000, 9001), of(1, 5000)]);
    }
    expect(counts).toEqual([
      [45, 3, 2],
      [45, 3, 2],
      [10, 20, 20],
      [0, 25, 25],
      [0, 10, 40],
    ]);
  });

  test('any line of packs and single keys is claimed whole, each key once, never more than asked for', async () => {
    const entry = fc.oneof(
      fc.record({ kind: fc.constant('single' as const) }),
      fc.record({ kind: fc.constant('pack' as const), keys: fc.integer({ min: 1, max: 260 }) }),
      fc.record({ kind: fc.constant('claim' as const), limit: fc.integer({ min: 1, max: 500 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 12 }), async (entries) => {
        await fixture.db.exec('TRUNCATE freshvec.change, freshvec.change_pack, freshvec.lease');
        let written = 0;
        let fromId = 0;
        const taken: number[] = [];
        const take = async (limit: number) => {
          const answer = await claim(limit, { fromId });
          expect(answer.leased.length).toBeLessThanOrEqual(limit);
          taken.push(...keysOf(answer));
          fromId = answer.lastId;
          return answer;
        };
        for (const one of entries) {
          if (one.kind === 'claim') {
            await take(one.limit);
            continue;
          }
          const from = written + 1;
          written += one.kind === 'pack' ? one.keys : 1;
          await (one.kind === 'pack' ? pack(range(from, written)) : single(String(from)));
        }
        // Nobody else claims, so the hint never passes anything over.
        while ((await take(100)).more);
        expect(taken.sort(byValue)).toEqual(range(1, written).map(Number));
        expect(await left()).toEqual([]);
      }),
      { numRuns: engine === 'postgres' ? 40 : 10 },
    );
  });

  test('the look for work and the status know of them', async () => {
    expect(await lookForWork(fixture.db, 0)).toMatchObject({ spaceIds: [] });
    await pack(range(1, 250));
    await single('250', { lane: 0 });
    const { spaceIds, upToId } = await lookForWork(fixture.db, 0);
    expect(spaceIds).toEqual([space.id]);
    expect(await lookForWork(fixture.db, upToId + 1)).toMatchObject({ spaceIds: [] });
    await fixture.db.query(`UPDATE freshvec.change_pack SET at = now() - interval '100 s'`);
    const pending = await readPending(fixture.db, space);
    expect(pending).toMatchObject({ keys: 250, leased: 0 });
    expect(pending.oldestSeconds).toBeGreaterThanOrEqual(100);
    expect(await remainingKeys(fixture.db)).toBe(250);
  });

  test('what a large statement did is embedded, and removed when a large DELETE took it', async () => {
    await fixture.db.query(`INSERT INTO doc SELECT i, 'text ' || i, 'w' || i % 7 FROM generate_series(1, 1301) i`);
    const packs = await fixture.db.query<{ n: number; off: number }>(
      `SELECT cardinality(keys) AS n, (SELECT count(*) FROM unnest(keys, tenants) AS k(key, tenant)
         WHERE tenant IS DISTINCT FROM 'w' || key::int % 7) AS off FROM freshvec.change_pack`,
    );
    expect(packs.map(({ n }) => n).sort(byValue)).toEqual([101, 200, 200, 200, 200, 200, 200]);
    expect(packs.every(({ off }) => off === 0)).toBe(true);
    expect(await fixture.db.query('SELECT FROM freshvec.change')).toEqual([]);
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1301, fresh: 1301, vectors: 1301 });
    await fixture.db.query(`UPDATE doc SET body = body || '!'`);
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1301, fresh: 1301 });
    await fixture.db.query('DELETE FROM doc WHERE id > 100');
    await fixture.work();
    expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 100, fresh: 100, vectors: 100 });
    expect(await left()).toEqual([]);
  });

  describe.runIf(engine === 'postgres')('with others at work', () => {
    test('claimers that cut the same packs at once take each key once, and do not deadlock', async () => {
      const keys = 3000;
      for (let from = 1; from <= keys; from += 100) await pack(range(from, from + 99));
      const taken: number[] = [];
      const claimer = async () => {
        for (let dry = 0; dry < 20; ) {
          const answer = await claim(7);
          taken.push(...keysOf(answer));
          dry = answer.leased.length > 0 ? 0 : dry + 1;
        }
      };
      await Promise.all(Array.from({ length: 8 }, claimer));
      expect(taken.sort(byValue)).toEqual(range(1, keys).map(Number));
      expect(await left()).toEqual([]);
      // A pack that was leased from but neither cut nor dropped would have come by again.
      expect(await fixture.db.query('SELECT key FROM freshvec.lease WHERE again')).toEqual([]);
    });

    test('a pack that commits below what was claimed already is found by a full look', async () => {
      const ours = context(50);
      await fixture.db.session(async (late) => {
        await late.query('BEGIN');
        await pack(range(1, 120), late);
        await pack(['500']);
        expect((await claimNext(ours, randomUUID()))?.keys.map(({ key }) => key)).toEqual(['500']);
        await late.query('COMMIT');
      });
      ours.cursor.lookAgain();
      const keys: number[] = [];
      for (let next = await claimNext(ours, randomUUID()); next; next = await claimNext(ours, randomUUID())) {
        keys.push(...next.keys.map(({ key }) => Number(key)));
      }
      expect(keys.sort(byValue)).toEqual(range(1, 120).map(Number));
    });
  });
});
