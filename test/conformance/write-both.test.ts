import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { getSpace } from '../../src/catalog/space.js';
import { openStore } from '../../src/store/index.js';
import type { Store, WriteOutcome } from '../../src/store/port.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { start, workUntil } from '../reembed/support.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const KEYS = ['1', '2', '3'];

describe.each<Engine>(['postgres', 'pglite'])('vectors of two spaces in one write, on %s', (engine) => {
  let fixture: Fixture;
  let live: Store;
  let next: Store;
  const [ours, theirs] = [randomUUID(), randomUUID()];

  beforeAll(async () => {
    fixture = await openFixture(engine);
    const { db } = fixture;
    await db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
    const definition = { table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' } as const;
    ({ store: live } = await fixture.add({ ...definition, store: 'column' }));
    const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', type: 'halfvec' });
    await workUntil(fixture, id, ['ready']);
    const [space, extension] = [await getSpace(db, toSpaceId), await db.vectorExtension()];
    if (!space || !extension) throw new Error('no space');
    next = openStore(live.source, space, await vectorCodec(db, extension));
  });
  afterAll(() => fixture.close());

  beforeEach(async () => {
    const { db } = fixture;
    await db.exec(`DELETE FROM doc; INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 3) i;
      DELETE FROM freshvec.lease; DELETE FROM freshvec.failure`);
    await db.query(
      `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since)
       SELECT s, k, t, now() + interval '1 minute', now()
       FROM unnest($1::int[], $2::uuid[]) AS h(s, t), unnest($3::text[]) k`,
      [[live.space.id, next.space.id], [ours, theirs], KEYS],
    );
  });

  const vector = (store: Store, key: string) =>
    Float32Array.from({ length: store.space.dimensions }, (_, i) => Math.sin(Number(key) + i));

  /** Both vectors of all rows, made of the texts that they have now; `meanwhile` is done before they are written. */
  async function writeBoth(meanwhile = ''): Promise<Map<string, WriteOutcome>> {
    const { db } = fixture;
    const rows = await db.tx((tx) => live.read(tx, KEYS));
    if (meanwhile) await db.exec(meanwhile);
    const items = rows.map(({ key, hash }) => ({ key, hash: hash ?? '', vector: vector(live, key) }));
    const vectors = KEYS.map((key) => vector(next, key));
    const outcomes = await db.tx(async (tx) =>
      live.writeBoth?.(tx, ours, items, { space: next.space, token: theirs, vectors }),
    );
    if (!outcomes) throw new Error('not on the rows');
    return outcomes;
  }
  const stored = async (store: Store) => fixture.db.tx((tx) => store.vectors(tx, KEYS));

  test('each row gets both, and its flag is lowered', async () => {
    expect([...(await writeBoth())]).toEqual(KEYS.map((key) => [key, 'written']));
    for (const store of [live, next]) {
      const found = await stored(store);
      for (const key of KEYS) {
        const [have, made] = [found.get(key)?.vector ?? [], vector(store, key)];
        expect(Math.max(...[...have].map((x, i) => Math.abs(x - (made[i] ?? 0))))).toBeLessThan(1e-3);
      }
      expect(await fixture.db.tx((tx) => store.count(tx))).toMatchObject({ rows: 3, fresh: 3 });
    }
    expect(await fixture.db.query('SELECT FROM doc WHERE embedding_stale')).toEqual([]);
  });

  test.each([
    { what: 'our lease is another’s', sql: `space_id = $live AND key = '2'`, outcome: 'lost' },
    { what: 'their lease is another’s', sql: `space_id = $next AND key = '2'`, outcome: 'locked' },
  ])('a row gets neither where $what', async ({ sql, outcome }) => {
    const where = sql.replace('$live', String(live.space.id)).replace('$next', String(next.space.id));
    const written = await writeBoth(`UPDATE freshvec.lease SET token = '${randomUUID()}' WHERE ${where}`);
    expect(written.get('2')).toBe(outcome);
    for (const store of [live, next]) expect([...(await stored(store)).keys()].sort()).toEqual(['1', '3']);
  });

  test('a row that was edited or deleted meanwhile gets neither', async () => {
    const outcomes = await writeBoth(`UPDATE doc SET body = 'other' WHERE id = 1; DELETE FROM doc WHERE id = 3`);
    expect(Object.fromEntries(outcomes)).toEqual({ 1: 'changed', 2: 'written', 3: 'gone' });
    for (const store of [live, next]) expect([...(await stored(store)).keys()]).toEqual(['2']);
  });

  test.each([
    ['both vectors, by NULL', 'RETURN NULL;', ['1', '3'], ['1', '3']],
    ['both vectors, by OLD', 'RETURN OLD;', ['1', '3'], ['1', '3']],
    ['their vector only', 'NEW.embedding_2 := NULL; RETURN NEW;', ['1', '2', '3'], ['1', '3']],
  ])('a row is told of that a trigger keeps from having %s', async (_, body, inLive, inNext) => {
    const outcomes =
      await writeBoth(`CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} END $$;
      CREATE TRIGGER veto BEFORE UPDATE ON doc FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION veto()`);
    await fixture.db.exec('DROP FUNCTION veto CASCADE');
    expect(Object.fromEntries(outcomes)).toEqual({ 1: 'written', 2: 'vetoed', 3: 'written' });
    expect([...(await stored(live)).keys()].sort()).toEqual(inLive);
    expect([...(await stored(next)).keys()].sort()).toEqual(inNext);
  });

  test('a row gets neither where the other space’s columns have other names by now', async () => {
    const { id, column } = next.space;
    const rename = (to: string) => `UPDATE freshvec.space SET column_name = '${to}' WHERE id = ${id}`;
    const outcomes = await writeBoth(rename('elsewhere'));
    await fixture.db.exec(rename(column));
    expect([...outcomes.values()]).toEqual(KEYS.map(() => 'changed'));
    for (const store of [live, next]) expect((await stored(store)).size).toBe(0);
  });
});
