import { afterAll, beforeAll, describe, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { copyLines } from './copy.js';
import { expectFresh, type Held, MODEL, STORES } from './rows.js';
import { eachTry } from './support/tries.js';

const ROWS = 40;

/** Every one is run twice: with the queue drained before it, and with what it leaves behind still waiting. */
const WRITES: Readonly<Record<string, (table: string, url: string) => string | Promise<void>>> = {
  'primary key changed': (t) => `UPDATE ${t} SET id = id + 1000 WHERE id % 3 = 0`,
  'primary keys swapped': (t) => `UPDATE ${t} SET id = -1 WHERE id = 1; UPDATE ${t} SET id = 1 WHERE id = 2;
    UPDATE ${t} SET id = 2 WHERE id = -1`,
  'primary key and text changed': (t) => `UPDATE ${t} SET id = id + 2000, body = 'moved ' || id WHERE id % 7 = 1`,
  'key of a deleted row taken over': (t) => `DELETE FROM ${t} WHERE id = 4; UPDATE ${t} SET id = 4 WHERE id = 5`,
  'all keys shifted by one statement': (t) => `UPDATE ${t} SET id = id + 5000 WHERE id < 20`,
  'INSERT … ON CONFLICT DO UPDATE': (
    t,
  ) => `INSERT INTO ${t} (id, body) SELECT i, 'upserted ' || i FROM generate_series(20, 60) i
    ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
  'INSERT … ON CONFLICT DO UPDATE without a change': (t) => `INSERT INTO ${t} (id, body) SELECT id, body FROM ${t}
    ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
  'INSERT … ON CONFLICT DO NOTHING': (
    t,
  ) => `INSERT INTO ${t} (id, body) SELECT i, 'ignored' FROM generate_series(50, 70) i
    ON CONFLICT (id) DO NOTHING`,
  COPY: (t, url) =>
    copyLines(url, `${t} (id, body)`, ['3001\tcopied', '3002\t\\N', '3003\t', '3004\twith\\ttab \\\\ and \\n line']),
  MERGE: (t) => `MERGE INTO ${t} AS t USING (SELECT i AS id FROM generate_series(25, 45) i) s ON t.id = s.id
    WHEN MATCHED AND s.id % 3 = 0 THEN DELETE
    WHEN MATCHED AND s.id % 3 = 1 THEN UPDATE SET body = 'merged ' || t.id
    WHEN MATCHED THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT (id, body) VALUES (s.id, 'merged in ' || s.id)`,
  'MERGE that only updates': (t) => `MERGE INTO ${t} AS t USING (SELECT 30 AS id) s ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET body = t.body || ' again'`,
  'UPDATE … FROM': (t) =>
    `UPDATE ${t} AS t SET body = o.body || ' joined' FROM ${t} AS o WHERE t.id = o.id AND t.id % 5 = 0`,
  'data-modifying CTEs': (t) => `WITH gone AS (DELETE FROM ${t} WHERE id % 11 = 0 RETURNING id, body),
    back AS (INSERT INTO ${t} (id, body) SELECT id + 6000, body FROM gone)
    UPDATE ${t} SET body = 'with' WHERE id % 13 = 0`,
  'savepoint rolled back': (t) => `BEGIN; UPDATE ${t} SET body = 'kept' WHERE id = 1; SAVEPOINT s;
    UPDATE ${t} SET body = 'undone' WHERE id IN (1, 2); DELETE FROM ${t} WHERE id = 30; ROLLBACK TO s;
    UPDATE ${t} SET id = id + 7000 WHERE id = 33; COMMIT`,
  'text to nothing and back': (t) => `UPDATE ${t} SET body = NULL WHERE id % 2 = 0`,
  'DELETE of half': (t) => `DELETE FROM ${t} WHERE id % 2 = 1`,
  'COPY into the bulk lane': (t, url) =>
    copyLines(
      url,
      `${t} (id, body)`,
      Array.from({ length: 1200 }, (_, i) => `${8000 + i}\tbulk ${i}`),
    ),
  TRUNCATE: (t) => `TRUNCATE ${t}`,
  'TRUNCATE and refill in one transaction': (
    t,
  ) => `BEGIN; INSERT INTO ${t} (id, body) VALUES (900, 'doomed'); TRUNCATE ${t};
    INSERT INTO ${t} (id, body) SELECT i, 'refilled ' || i FROM generate_series(1, ${ROWS}) i; COMMIT`,
};

const SHAPES: readonly (readonly ['plain' | 'partitioned', StoreKind])[] = STORES.flatMap((store) => [
  ['plain', store] as const,
  ['partitioned', store] as const,
]);

describe('fault 23: primary key changed; TRUNCATE; COPY; INSERT … ON CONFLICT; MERGE [C]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test.for(SHAPES)('%s table, store %s', async ([shape, store], context) => {
    const { db, url } = fixture;
    const table = `${shape}_${store}`;
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text)
        ${shape === 'plain' ? '' : 'PARTITION BY HASH (id)'};
      ${shape === 'plain' ? '' : partitions(table)}
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, ${ROWS}) i`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    await quiet(held);
    const tries = [...Object.keys(WRITES), ...Object.keys(WRITES)];
    await eachTry(context, tries, async (name, attempt) => {
      const write = WRITES[name]?.(table, url);
      if (typeof write === 'string') await db.exec(write);
      else await write;
      if (attempt < tries.length / 2 || attempt % 4 === 3) await quiet(held);
      // The next round meets the same keys again.
      if (attempt === tries.length / 2 - 1) await db.exec(`DELETE FROM ${table} WHERE id > 100`);
    });
    await quiet(held);
  });

  test.for(STORES)('MERGE moves rows between partitions, which only the sweeper sees: store %s', async (store) => {
    const { db } = fixture;
    const table = `moved_${store}`;
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text) PARTITION BY HASH (id);
      ${partitions(table)}
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, ${ROWS}) i`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    await quiet(held);
    await db.exec(`MERGE INTO ${table} AS t USING (SELECT i AS id FROM generate_series(1, 20) i) s ON t.id = s.id
      WHEN MATCHED THEN UPDATE SET id = t.id + 1000, body = 'moved ' || t.id`);
    await fixture.work();
    await sweep(db);
    await quiet(held);
  });

  async function quiet(held: Held): Promise<void> {
    await fixture.work();
    await expectFresh(fixture, held, { text: 'body' });
  }
});

function partitions(table: string): string {
  return [0, 1, 2]
    .map((i) => `CREATE TABLE ${table}_${i} PARTITION OF ${table} FOR VALUES WITH (MODULUS 3, REMAINDER ${i});`)
    .join('\n');
}
