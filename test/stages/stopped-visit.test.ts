import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createGates, type Gates } from '../../src/budget/gates.js';
import type { Database } from '../../src/db/database.js';
import { Drainer } from '../../src/worker/drainer.js';
import { drainOnce } from '../../src/worker/once.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
let gates: Gates;
let spaceId: number;
let app: pg.Client;
beforeEach(async () => {
  fixture = await openFixture();
  gates = createGates(fixture.db, {}, () => {});
  app = new pg.Client({ connectionString: fixture.url });
  await app.connect();
  // More pages than are visited in turn with edits.
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, note text);
    CREATE FUNCTION slowly(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN t; END $$;
    INSERT INTO doc SELECT i, 'text ' || i, repeat('x', 1500) FROM generate_series(1, 2000) i`);
  const { space } = await fixture.add({
    table: 'doc',
    content: { sql: 'slowly(body)' },
    model: 'fake/p@8',
    index: 'none',
  });
  spaceId = space.id;
  // The closing visit alone, which takes 40 s.
  await fixture.db.exec(`DELETE FROM freshvec.range WHERE id < (SELECT max(id) FROM freshvec.range);
    CREATE OR REPLACE FUNCTION slowly(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_sleep(0.02); RETURN t; END $$`);
});
afterEach(async () => {
  await app.end();
  await gates.close();
  await fixture.close();
});

const visits = () =>
  fixture.db.query(
    `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
       AND query LIKE '%slowly%' AND query_start < clock_timestamp() - interval '500 ms'`,
  );
const options = () => ({ db: fixture.db, models: fixture.models, gates });

/** What the next worker finds: the range, free, and nothing that anybody holds. */
async function expectNothingHeld(): Promise<void> {
  const { db } = fixture;
  expect(await visits()).toEqual([]);
  expect(await db.query('SELECT FROM freshvec.lease')).toEqual([]);
  expect(await db.query('SELECT FROM freshvec.range FOR UPDATE SKIP LOCKED')).toHaveLength(1);
}

test('a stop gives back what is parked, then ends the visit of a whole table', async () => {
  const { db } = fixture;
  const heldAtEnd: number[] = [];
  const watched: Database = instead(db, {
    async query(text, params) {
      if (text.includes('pg_cancel_backend')) heldAtEnd.push((await db.query('SELECT FROM freshvec.lease')).length);
      return db.query(text, params);
    },
  });
  const drainer = new Drainer({ ...options(), db: watched, worker: 'test', batchKeys: 10 });
  const stop = new AbortController();
  const { signal: cut } = new AbortController();
  await db.query(`UPDATE doc SET body = 'edited' WHERE id = 1`);
  await app.query('BEGIN; SELECT FROM doc WHERE id = 1 FOR UPDATE');
  const draining = drainer.drain(spaceId, { stop: stop.signal, cut });
  await eventually(async () => (await visits()).length === 1, { what: 'the visit', timeoutMs: 30_000 });
  stop.abort();
  await draining;
  expect(drainer.parkedSpaces()).toEqual([spaceId]);
  await drainer.close();
  await expectNothingHeld();
  expect(heldAtEnd[0]).toBe(0);
  expect(await db.query('SELECT key, lane FROM freshvec.change')).toEqual([{ key: '1', lane: 0 }]);
});

test('work that is told to stop does not wait for the visit of a whole table', async () => {
  const stop = new AbortController();
  const working = drainOnce({ ...options(), slots: 2, batchKeys: 10, signal: stop.signal });
  await eventually(async () => (await visits()).length === 1, { what: 'the visit', timeoutMs: 30_000 });
  stop.abort();
  await working;
  await expectNothingHeld();
});
