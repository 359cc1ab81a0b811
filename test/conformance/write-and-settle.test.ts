import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { endingSql, type NewVector } from '../../src/claim/settle.js';
import type { SettledWrite, Store } from '../../src/store/port.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const KINDS: readonly [StoreKind, Engine][] = [
  ['column', 'postgres'],
  ['table', 'postgres'],
  ['column', 'pglite'],
  ['table', 'pglite'],
];
const KEYS = ['1', '2', '3', '4'];

describe.each(KINDS)('vectors written and leases settled in one statement, store %s on %s', (kind, engine) => {
  let fixture: Fixture;
  let store: Store;
  const token = randomUUID();

  beforeAll(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
    const definition = { table: 'doc', content: { columns: ['body'] }, model: 'fake/m@8', index: 'none' } as const;
    ({ store } = await fixture.add({ ...definition, store: kind }));
  });
  afterAll(() => fixture.close());

  beforeEach(async () => {
    const { db } = fixture;
    await db.exec(`DELETE FROM doc; INSERT INTO doc SELECT i, 'text ' || gen_random_uuid() FROM generate_series(1, 4) i;
      TRUNCATE freshvec.lease, freshvec.failure, freshvec.long_text, freshvec.change, freshvec.change_pack`);
    await db.query(
      `INSERT INTO freshvec.lease (space_id, key, token, lane, expires_at, since)
       SELECT $1, k, $2::uuid, 0, now() + interval '1 minute', now() - interval '5 s' FROM unnest($3::text[]) k`,
      [store.space.id, token, KEYS],
    );
  });

  /** All four, made of the texts that they have now; `meanwhile` is done before they are written. */
  async function write(meanwhile = '', vectors = new Map<string, NewVector>()): Promise<SettledWrite> {
    const { db } = fixture;
    const rows = await db.tx((tx) => store.read(tx, KEYS));
    if (meanwhile) await db.exec(meanwhile);
    const items = rows.map(({ key, hash }) => ({
      key,
      hash: hash ?? '',
      vector: new Float32Array(8).fill(Number(key)),
    }));
    const dropping = { spaceId: store.space.id, vectors, healed: true };
    return db.tx((tx) => store.writeAndSettle(tx, token, items, (locked, first) => endingSql(dropping, locked, first)));
  }
  const column = async (sql: string) => (await fixture.db.query(sql)).flatMap((row) => Object.values(row)).map(String);
  const leased = () => column('SELECT key FROM freshvec.lease ORDER BY key');
  const fresh = async () => {
    const rows = await fixture.db.tx((tx) => store.read(tx, KEYS));
    return rows.filter(({ state }) => state === 'fresh').map(({ key }) => key);
  };

  test('all are written, their leases end, and it says how long ago the edits were', async () => {
    const { written, restless, lagSeconds, lockedMs } = await write();
    expect([[...written].sort(), restless, await leased(), await fresh()]).toEqual([KEYS, [], [], KEYS]);
    expect(lagSeconds).toHaveLength(4);
    for (const seconds of lagSeconds) expect(seconds).toBeGreaterThanOrEqual(5);
    expect(lockedMs).toBeGreaterThan(0);
  });

  test('what is not written keeps its lease: a text that changed, a row that is gone, a lease that is lost', async () => {
    const lost = randomUUID();
    const { written } = await write(`UPDATE doc SET body = 'edited' WHERE id = 1; DELETE FROM doc WHERE id = 2;
      UPDATE freshvec.lease SET token = '${lost}' WHERE key = '3'`);
    expect([written, await leased(), await fresh()]).toEqual([['4'], ['1', '2', '3'], ['4']]);
  });

  test('a key that changed while it was held goes back into the line', async () => {
    const { written, lagSeconds } = await write(
      `UPDATE freshvec.lease SET again = true, again_force = true, tenant = 'acme' WHERE key = '2'`,
    );
    expect([[...written].sort(), await leased()]).toEqual([KEYS, []]);
    expect(lagSeconds).toHaveLength(3);
    expect(await fixture.db.query('SELECT lane, key, tenant, force FROM freshvec.change')).toEqual([
      { lane: 0, key: '2', tenant: 'acme', force: true },
    ]);
  });

  test('failures of what is written go, and notes of long texts are as the vectors are made', async () => {
    const failure = `SELECT ${store.space.id}, key, 'x', 'x', 1 FROM unnest('{1,9}'::text[]) key`;
    const note = `SELECT ${store.space.id}, key, 'truncate', 9, 8, 1 FROM unnest('{2,3}'::text[]) key`;
    const vectors = new Map<string, NewVector>([
      ['2', 'whole'],
      ['4', { how: 'chunk', tokens: 20, maxTokens: 8, pieces: 3 }],
    ]);
    await write(
      `INSERT INTO freshvec.failure (space_id, key, code, message, attempts) ${failure};
       INSERT INTO freshvec.long_text (space_id, key, how, tokens, max_tokens, pieces) ${note}`,
      vectors,
    );
    expect(await column('SELECT key FROM freshvec.failure')).toEqual(['9']);
    expect(await column(`SELECT key || ' ' || how || ' ' || pieces FROM freshvec.long_text ORDER BY key`)).toEqual([
      '3 truncate 1',
      '4 chunk 3',
    ]);
  });

  if (kind === 'column')
    test('a row that a trigger makes stale again keeps its lease, and so does one that a trigger keeps as it is', async () => {
      const { db } = fixture;
      await db.exec(`CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.id = 1 THEN NEW.body := NEW.body || '!'; END IF;
          IF NEW.id = 2 THEN RETURN NULL; END IF;
          IF NEW.id = 3 THEN RETURN OLD; END IF;
          RETURN NEW; END $$;
        CREATE TRIGGER meddle BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION meddle()`);
      const { written, restless } = await write();
      await db.exec('DROP FUNCTION meddle CASCADE');
      expect([written, restless, await leased(), await fresh()]).toEqual([['4'], ['1'], ['1', '2', '3'], ['4']]);
    });

  if (engine === 'postgres')
    test('neither a row nor a lease that somebody holds is waited for', async () => {
      const { db } = fixture;
      await db.tx(async (app) => {
        await app.query(`SELECT FROM doc WHERE id = 1 FOR UPDATE`);
        await app.query(`SELECT FROM freshvec.lease WHERE key = '2' FOR UPDATE`);
        expect([...(await write()).written].sort()).toEqual(['3', '4']);
      });
      expect([await leased(), await fresh()]).toEqual([
        ['1', '2'],
        ['3', '4'],
      ]);
    });
});
