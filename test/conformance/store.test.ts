import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Store, WriteItem, WriteOutcome } from '../../src/store/port.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const KINDS: readonly [StoreKind, Engine][] = [
  ['column', 'postgres'],
  ['table', 'postgres'],
  ['column', 'pglite'],
  ['table', 'pglite'],
];

describe.each(KINDS)('store %s on %s', (kind, engine) => {
  let fixture: Fixture;
  let store: Store;
  const token = randomUUID();

  beforeAll(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec(
      `CREATE TABLE doc (a int, b text, body text, visible boolean DEFAULT true, PRIMARY KEY (a, b))`,
    );
    ({ store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      where: 'visible',
      model: 'fake/m@8',
      store: kind,
      index: 'none',
    }));
  });
  afterAll(() => fixture.close());

  const key = (a: number) => `["${a}", "x"]`;
  const vector = (seed: number) => Float32Array.from({ length: 8 }, (_, i) => Math.sin(seed + i));
  const lease = (keys: readonly string[], held = token) =>
    fixture.db.query(
      `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since)
       SELECT $1, k, $2::uuid, now() + interval '1 minute', now() FROM unnest($3::text[]) k
       ON CONFLICT (space_id, key) DO UPDATE SET token = excluded.token`,
      [store.space.id, held, keys],
    );
  const insert = (a: number, body: string | null, visible = true) =>
    fixture.db.query(
      `INSERT INTO doc (a, b, body, visible) VALUES ($1, 'x', $2, $3)
       ON CONFLICT (a, b) DO UPDATE SET body = excluded.body, visible = excluded.visible`,
      [a, body, visible],
    );
  const read = async (...keys: string[]) => {
    const rows = await fixture.db.tx((tx) => store.read(tx, keys));
    return new Map(rows.map((row) => [row.key, row]));
  };
  const item = async (a: number): Promise<WriteItem> => ({
    key: key(a),
    hash: (await read(key(a))).get(key(a))?.hash ?? '',
    vector: vector(a),
  });
  const write = (items: readonly WriteItem[], held = token): Promise<Map<string, WriteOutcome>> =>
    fixture.db.tx((tx) => store.write(tx, held, items));
  const pages = async () => {
    const [row] = await fixture.db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid::int8 AS oid`);
    return { relationOid: row?.oid ?? 0, fromPage: 0, toPage: 1000 };
  };
  const diff = async (limit = 1000) => {
    const all = await pages();
    return (await fixture.db.tx((tx) => store.diff(tx, all, limit))).sort();
  };
  /** Has what deleted rows left be looked for. */
  const prune = () =>
    fixture.db.query(
      `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
       VALUES ($1, 'prune', 'doc'::regclass, 0, 0, 0)`,
      [store.space.id],
    );
  const dropLeases = () => fixture.db.query('DELETE FROM freshvec.lease');

  test('reads wanted, blank, filtered and missing rows', async () => {
    await insert(1, 'one');
    await insert(2, '  \n ');
    await insert(3, null);
    await insert(4, 'hidden', false);
    const rows = await read(key(1), key(2), key(3), key(4), key(99));
    expect(rows.get(key(1))).toMatchObject({ state: 'wanted', exists: true, text: 'one' });
    for (const a of [2, 3, 4]) expect(rows.get(key(a))).toMatchObject({ state: 'unwanted', exists: true, text: null });
    expect(rows.get(key(99))).toMatchObject({ state: 'unwanted', exists: false, untidy: false });
  });

  test('writes under a lease, and the row is fresh', async () => {
    await insert(10, 'ten');
    await lease([key(10)]);
    expect(await write([await item(10)])).toEqual(new Map([[key(10), 'written']]));
    expect((await read(key(10))).get(key(10))).toMatchObject({ state: 'fresh', untidy: false });
    await dropLeases();
  });

  test('writes nothing without the lease, or under another token', async () => {
    await insert(11, 'eleven');
    expect(await write([await item(11)])).toEqual(new Map([[key(11), 'lost']]));
    await lease([key(11)], randomUUID());
    expect(await write([await item(11)])).toEqual(new Map([[key(11), 'lost']]));
    expect((await read(key(11))).get(key(11))?.state).toBe('wanted');
    await dropLeases();
  });

  test('does not write over a text that changed, nor bring a deleted row back', async () => {
    await insert(12, 'twelve');
    await insert(13, 'thirteen');
    await lease([key(12), key(13)]);
    const items = [await item(12), await item(13)];
    await insert(12, 'twelve, edited');
    await fixture.db.query('DELETE FROM doc WHERE a = 13');
    expect(await write(items)).toEqual(
      new Map([
        [key(12), 'changed'],
        [key(13), 'gone'],
      ]),
    );
    expect((await read(key(12))).get(key(12))?.state).toBe('wanted');
    expect((await fixture.db.query('SELECT 1 FROM doc WHERE a = 13')).length).toBe(0);
    await dropLeases();
  });

  test('a row that lost its text loses its vector, and only then', async () => {
    await insert(14, 'fourteen');
    await lease([key(14)]);
    await write([await item(14)]);
    expect(await fixture.db.tx((tx) => store.remove(tx, token, [key(14)]))).toEqual(new Map([[key(14), 'changed']]));
    await insert(14, ' ');
    expect((await read(key(14))).get(key(14))).toMatchObject({ state: 'unwanted', untidy: true });
    expect(await fixture.db.tx((tx) => store.remove(tx, token, [key(14)]))).toEqual(new Map([[key(14), 'written']]));
    expect((await read(key(14))).get(key(14))).toMatchObject({ state: 'unwanted', untidy: false });
    await dropLeases();
  });

  if (engine === 'postgres')
    test('what a deleted row left is removed later where its lease is held just now, as by a renewal', async () => {
      await insert(15, 'fifteen');
      await lease([key(15)]);
      await write([await item(15)]);
      await fixture.db.query('DELETE FROM doc WHERE a = 15');
      const remove = async () =>
        (await fixture.db.tx((tx) => store.remove(tx, token, [key(15)]))).get(key(15)) ?? 'no outcome';
      const whileRenewed = await fixture.db.tx(async (renewal) => {
        await renewal.query('SELECT FROM freshvec.lease WHERE key = $1 FOR UPDATE', [key(15)]);
        return remove();
      });
      // Where vectors are on the row there is nothing left to remove.
      expect(whileRenewed).toBe(kind === 'table' ? 'locked' : 'gone');
      expect((await read(key(15))).get(key(15))).toMatchObject({ exists: false, untidy: kind === 'table' });
      expect(await remove()).toBe(kind === 'table' ? 'written' : 'gone');
      expect((await read(key(15))).get(key(15))).toMatchObject({ exists: false, untidy: false });
      await dropLeases();
    });

  if (kind === 'column')
    test('what a trigger keeps as it is, without a word, is told from what changed and from what needed nothing', async () => {
      const { db } = fixture;
      for (const a of [16, 17, 18, 19]) await insert(a, `text ${a}`);
      const keys = [16, 17, 18, 19].map(key);
      const each = (outcome: WriteOutcome) => new Map(keys.map((one) => [one, one === key(17) ? outcome : 'written']));
      const trigger = (body: string) =>
        db.exec(`CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} END $$;
          CREATE TRIGGER veto BEFORE UPDATE ON doc FOR EACH ROW WHEN (OLD.a = 17) EXECUTE FUNCTION veto()`);
      const dropTrigger = () => db.exec('DROP FUNCTION veto CASCADE');
      await lease(keys);
      const items = [await item(16), await item(17), await item(18), await item(19)];
      const change = {
        write: () => write(items),
        confirm: () => db.tx((tx) => store.confirm(tx, token, keys)),
        remove: () => db.tx((tx) => store.remove(tx, token, keys)),
      };
      const before = {
        write: 'embedding = NULL, embedding_hash = NULL, embedding_model = NULL, embedding_stale = true',
        confirm: 'embedding_stale = true',
        remove: `visible = false, embedding = array_fill(1, ARRAY[8])::vector`,
      };
      for (const name of ['write', 'confirm', 'remove'] as const) {
        for (const kept of ['NULL', 'OLD']) {
          await db.query(`UPDATE doc SET ${before[name]} WHERE a BETWEEN 16 AND 19`);
          await trigger(`RETURN ${kept};`);
          expect([name, kept, await change[name]()]).toEqual([name, kept, each('vetoed')]);
          await dropTrigger();
          expect([name, await change[name]()]).toEqual([name, each('written')]);
        }
        // What is as it should be is rewritten by nobody where the table has PostgreSQL's own trigger for that.
        await db.exec(
          `CREATE TRIGGER veto BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
        );
        expect([name, await change[name]()]).toEqual([name, each('written')]);
        await db.exec('DROP TRIGGER veto ON doc');
      }
      await db.query('UPDATE doc SET visible = true WHERE a BETWEEN 16 AND 19');
      await trigger(`NEW.body := lower(NEW.body); NEW.embedding := NULL; RETURN NEW;`);
      await insert(17, 'TEXT 17');
      await db.query(`ALTER TABLE doc DISABLE TRIGGER veto`);
      await db.query(`UPDATE doc SET body = 'TEXT 17' WHERE a = 17`);
      await db.query(`ALTER TABLE doc ENABLE TRIGGER veto`);
      expect(await write([await item(16), await item(17), await item(18), await item(19)])).toEqual(each('restless'));
      await dropTrigger();
      await dropLeases();
    });

  test('diff names what is not as it should be, once nobody holds it', async () => {
    await fixture.db.exec('TRUNCATE doc');
    await dropLeases();
    for (const a of [20, 21, 22]) await insert(a, `text ${a}`);
    await insert(23, '');
    if (kind === 'column') await fixture.db.exec('UPDATE doc SET embedding_stale = false WHERE a = 23');
    expect(await diff()).toEqual([key(20), key(21), key(22)]);
    expect((await diff(2)).length).toBe(2);
    await lease([key(20), key(21)]);
    expect(await diff()).toEqual([key(22)]);
    await write([await item(20)]);
    await dropLeases();
    expect(await diff()).toEqual([key(21), key(22)]);
  });

  test('a text that failed is left alone until it changes', async () => {
    await insert(24, 'bad');
    const bad = await item(24);
    await fixture.db.query(
      `INSERT INTO freshvec.failure (space_id, key, code, message, attempts, hash) VALUES ($1, $2, 'x', 'x', 1, $3::uuid)`,
      [store.space.id, key(24), bad.hash],
    );
    expect(await diff()).not.toContain(key(24));
    expect((await read(key(24))).get(key(24))?.failedHash).toBe(bad.hash);
    await insert(24, 'better');
    expect(await diff()).toContain(key(24));
  });

  test('counts add up, and what deleted rows left is found, and taken away under a lease', async () => {
    await insert(24, 'bad');
    const count = await fixture.db.tx((tx) => store.count(tx));
    expect(count).toEqual({ rows: 4, fresh: 1, failed: 1, vectors: kind === 'table' ? count.vectors : 1 });
    await fixture.db.exec('DELETE FROM doc');
    const orphans = (limit: number) => fixture.db.tx((tx) => store.orphans(tx, limit));
    // Of 24 there is a failure.
    expect(await orphans(100)).toContain(key(24));
    if (kind === 'table') expect(await orphans(100)).toContain(key(20));
    expect(await orphans(1)).toHaveLength(1);
    // Whoever held one may have read its row; whoever waits will look again.
    await lease([key(24)]);
    expect(await orphans(100)).toContain(key(24));
    await fixture.db.query('UPDATE freshvec.lease SET token = NULL');
    expect(await orphans(100)).not.toContain(key(24));
    await dropLeases();
    // Nobody tells of these deletes but a range.
    await fixture.db.exec('TRUNCATE freshvec.change, freshvec.change_pack, freshvec.range');
    await prune();
    await fixture.work();
    expect((await fixture.db.tx((tx) => store.count(tx))).vectors).toBe(0);
    expect(await fixture.db.query('SELECT 1 FROM freshvec.failure')).toEqual([]);
    expect(await fixture.db.query('SELECT 1 FROM freshvec.range')).toEqual([]);
    expect(await orphans(100)).toEqual([]);
  });

  if (engine === 'postgres')
    // One connection cannot hold a row against itself.
    test('a row that the app holds is told from one that is gone', async () => {
      await dropLeases();
      await insert(30, 'thirty');
      await lease([key(30)]);
      const items = [await item(30)];
      await fixture.db.session(async (app) => {
        await app.query('BEGIN');
        await app.query('SELECT 1 FROM doc WHERE a = 30 FOR UPDATE');
        expect(await write(items)).toEqual(new Map([[key(30), 'locked']]));
        await app.query('COMMIT');
      });
      expect(await write(items)).toEqual(new Map([[key(30), 'written']]));
    });

  if (kind === 'table' && engine === 'postgres')
    test('a row that comes back while the vectors of deleted rows are looked for keeps its vector', async () => {
      await dropLeases();
      await fixture.db.exec('DELETE FROM doc; TRUNCATE freshvec.failure');
      await insert(40, 'forty');
      await fixture.work();
      await fixture.db.exec('DELETE FROM doc WHERE a = 40; TRUNCATE freshvec.change');
      await fixture.db.tx(async (visit) => {
        expect(await store.orphans(visit, 100)).toEqual([key(40)]);
        await insert(40, 'forty');
        await fixture.work();
      });
      await fixture.work();
      expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1, fresh: 1, vectors: 1 });
    });

  test('a failure whose key is no key of the table any more keeps nobody from the others', async () => {
    await fixture.db.exec('DELETE FROM doc; TRUNCATE freshvec.failure');
    await fixture.work();
    await fixture.db.query(
      `INSERT INTO freshvec.failure (space_id, key, code, message, attempts) SELECT $1, k, 'x', 'x', 1 FROM unnest($2::text[]) k`,
      [store.space.id, ['["3000000000", "x"]', key(98)]],
    );
    expect(await fixture.db.tx((tx) => store.orphans(tx, 100))).toEqual([key(98)]);
    await prune();
    await fixture.work();
    expect(await fixture.db.query('SELECT key FROM freshvec.failure')).toEqual([{ key: '["3000000000", "x"]' }]);
    await fixture.db.exec('TRUNCATE freshvec.failure');
  });

  test('uncovered: what is wrong and unknown, of the rows on either side of a transaction; vectors: of fresh rows', async () => {
    await dropLeases();
    await fixture.db.query('DELETE FROM freshvec.change');
    await fixture.db.query('DELETE FROM freshvec.failure');
    await fixture.db.query('DELETE FROM doc');
    await fixture.work();
    for (const a of [101, 102, 103]) await insert(a, `text ${a}`);
    await lease([key(101)]);
    expect((await write([await item(101)])).get(key(101))).toBe('written');
    await dropLeases();
    await fixture.db.query('DELETE FROM freshvec.change');
    // An id of its own: the oldest one that is open may be another test's.
    const [now] = await fixture.db.query<{ xid: string }>('SELECT pg_current_xact_id()::xid::text AS xid');
    const xid = now?.xid ?? '';
    const all = await pages();
    const uncovered = (when: 'before' | 'since') => fixture.db.tx((tx) => store.uncovered(tx, all, { xid, when }));
    const none = { rows: 0, failed: 0, missing: 0, stale: 0, surplus: 0, examples: [] };
    const before = await uncovered('before');
    expect({ ...before, examples: [...before.examples].sort() }).toEqual({
      ...none,
      rows: 3,
      missing: 2,
      examples: [key(102), key(103)],
    });
    expect(await uncovered('since')).toEqual(none);

    // Written since: one whose change is known, and one that nobody knows of.
    await insert(101, 'edited');
    await insert(103, 'edited too');
    await fixture.db.query('DELETE FROM freshvec.change WHERE key = $1', [key(103)]);
    expect(await uncovered('before')).toEqual({ ...none, rows: 1, missing: 1, examples: [key(102)] });
    expect(await uncovered('since')).toEqual({ ...none, rows: 2, missing: 1, examples: [key(103)] });
    expect(await fixture.db.tx((tx) => store.freshVectors(tx, [key(101), key(102)]))).toEqual([]);

    await insert(101, 'text 101');
    await insert(102, ' ');
    const vectors = await fixture.db.tx((tx) => store.freshVectors(tx, [key(101), key(102), key(103), key(99)]));
    expect(vectors.map((row) => [row.key, row.text, row.vector.length])).toEqual([[key(101), 'text 101', 8]]);
    for (const [i, value] of (vectors[0]?.vector ?? []).entries()) expect(value).toBeCloseTo(vector(101)[i] ?? 0, 6);
  });
});
