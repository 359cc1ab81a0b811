import { afterEach, expect, test } from 'vitest';
import { drainAlone } from '../support/drain-alone.js';
import { type Fixture, openFixture } from '../support/fixture.js';

const ROWS = 300;

let fixture: Fixture;
afterEach(() => fixture.close());

test.each([
  ['flags are lowered', 'embedding_stale = true'],
  ['vectors are taken away', `body = ''`],
])('beside a vector index %s a few rows a transaction', async (_, set) => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, other vector(3));
    INSERT INTO doc SELECT i, 'text ' || i, ARRAY[i, 1, 2]::vector FROM generate_series(1, ${ROWS}) i;
    CREATE INDEX ON doc USING hnsw (other vector_l2_ops)`);
  const { space, store } = await fixture.add({
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/p@8',
    store: 'column',
    index: 'none',
  });
  await fixture.work();
  await db.query(`UPDATE doc SET ${set}`);
  const { written } = await drainAlone(fixture, space.id, ROWS);
  expect(written).toBe(0);
  const { rows, fresh, vectors } = await db.tx((tx) => store.count(tx));
  expect({ rows, vectors }).toEqual({ rows: fresh, vectors: fresh });
  const [tidied] = await db.query<{ stale: number; transactions: number }>(
    `SELECT count(*) FILTER (WHERE embedding_stale) AS stale, count(DISTINCT xmin::text) AS transactions FROM doc`,
  );
  expect(tidied?.stale).toBe(0);
  // The first has 3 rows, and each half as many again as the one before it at most.
  expect(tidied?.transactions).toBeGreaterThanOrEqual(8);
});
