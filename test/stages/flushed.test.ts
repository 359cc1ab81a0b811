import { randomUUID } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { endUnflushed } from '../../src/claim/settle.js';
import type { Database } from '../../src/db/database.js';
import { drainAlone } from '../support/drain-alone.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

const INDEX = 'CREATE INDEX ON doc USING hnsw (other vector_l2_ops);';
const TRIGGER = `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
  CREATE TRIGGER tell AFTER UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION tell();`;
const OF_TEXTS = TRIGGER.replace('UPDATE ON', 'UPDATE OF body ON');

let fixture: Fixture | undefined;
afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

/** A source of 60 rows; `more` is made on its table. */
async function open(more: string) {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, other vector(3));
    INSERT INTO doc SELECT i, 'text ' || i, ARRAY[i, 1, 0]::vector FROM generate_series(1, 60) i; ${more}`);
  const definition = { table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' };
  const added = await fixture.add({ ...definition, store: 'column', index: 'none' });
  return { ...added, db: fixture.db, models: fixture.models };
}

test.each([
  { what: 'beside a vector index, but for the last of a batch', more: INDEX, waits: false },
  { what: 'without one, where they are one', more: '', waits: true },
  { what: 'beside one, where a trigger fires at texts only', more: INDEX + OF_TEXTS, waits: false },
  { what: "beside one, where the app's triggers may tell the world", more: INDEX + TRIGGER, waits: true },
])('writes wait for the disk: $waits, $what', async ({ more, waits }) => {
  const { db, models, space, store } = await open(more);
  const flushed: boolean[] = [];
  const watched: Database = instead(db, {
    tx(fn, options) {
      flushed.push(options?.flushed ?? true);
      return db.tx(fn, options);
    },
  });
  await drainAlone({ db: watched, models }, space.id, 100);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 60, fresh: 60 });
  expect(flushed.every((each) => each)).toBe(waits);
  expect(flushed.at(-1)).toBe(true);
});

test('what a crash between the writes of a batch takes back is done again', async () => {
  const { db, models, space, store } = await open(INDEX);
  let taken: readonly { key: string }[] = [];
  const crashing: Database = instead(db, {
    async tx(fn, options) {
      const result = await db.tx(fn, options);
      if (options?.flushed !== false || taken.length > 0) return result;
      // Vector and lease ended in one transaction: without it both are as they were before.
      taken = await db.query(
        `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, lane, since)
         SELECT $1, d.id::text, l.token, l.worker, l.expires_at, l.lane, l.since
         FROM (SELECT id FROM doc WHERE embedding IS NOT NULL LIMIT 2) d,
           (SELECT * FROM freshvec.lease WHERE space_id = $1 AND token IS NOT NULL LIMIT 1) l RETURNING key`,
        [space.id],
      );
      const keys = taken.map(({ key }) => Number(key));
      await db.query('UPDATE doc SET embedding = NULL, embedding_hash = NULL WHERE id = ANY($1::int[])', [keys]);
      return result;
    },
  });
  await drainAlone({ db: crashing, models }, space.id, 100);
  expect(taken).toHaveLength(2);
  expect(await db.query('SELECT FROM freshvec.lease')).toEqual([]);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 60, fresh: 60 });
});

test('the end of a batch waits for the disk for what was written before', async () => {
  const { db, space } = await open('');
  const unflushed = () => db.tx((tx) => tx.query('UPDATE doc SET other = other'), { flushed: false });
  // The server's own writer comes by five times a second, so one round could tell nothing.
  for (let round = 0; round < 20; round++) {
    await unflushed();
    const [at] = await db.query<{ written: string }>('SELECT pg_current_wal_insert_lsn()::text AS written');
    await endUnflushed(db, space.id, randomUUID());
    const [row] = await db.query<{ flushed: boolean }>('SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn AS flushed', [
      at?.written,
    ]);
    expect(row?.flushed).toBe(true);
  }
});
