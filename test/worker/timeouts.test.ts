import { afterEach, expect, test } from 'vitest';
import { claimRange } from '../../src/claim/claim-range.js';
import { openDatabase } from '../../src/db/open.js';
import { searchSpace } from '../../src/search/space-search.js';
import { sourceStatus } from '../../src/status/status.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { sampleKeys } from '../../src/store/vectors.js';
import { restAfter } from '../../src/worker/drain-errors.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test('a first load, an exact count and the gates take longer than the database lets statements run', async () => {
  fixture = await openFixture();
  const { db, url } = fixture;
  // What the content calls is slow, not what the test does.
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    CREATE FUNCTION slowly(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN t; END $$;
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 60) i`);
  const { source, space } = await fixture.add({
    table: 'doc',
    content: { sql: 'slowly(body)' },
    model: 'fake/p@16',
    index: 'none',
  });
  await db.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1000', current_database());
    EXECUTE format('ALTER DATABASE %I SET transaction_timeout = 1000', current_database()); END $$`);
  const bounded = await openDatabase({
    kind: 'postgres',
    url,
    poolSize: 2,
    applicationName: 'test',
    onError: () => {},
  });
  try {
    const extension = await bounded.vectorExtension();
    if (!extension) throw new Error('no pgvector');
    const store = openStore(source, space, await vectorCodec(bounded, extension));
    expect((await sourceStatus(bounded, { exact: true })).sources).toMatchObject([{ rows: 60, fresh: 0 }]);
    const claim = { token: '00000000-0000-4000-8000-000000000001', worker: 'test', limit: 100 };
    expect((await claimRange(bounded, space.id, store, claim)).leased).toHaveLength(60);
    // What gates do to a whole table.
    expect(await sampleKeys(bounded, source, 50, 1)).toHaveLength(50);
    const asLong = searchSpace(bounded, source, space, ({ tx }) => tx.query('SELECT pg_sleep(1.2)'));
    await expect(asLong).resolves.toHaveLength(1);
  } finally {
    await bounded.close();
  }
});

test('a space rests after a statement whose time was up: what was embedded would be paid for over and over', async () => {
  fixture = await openFixture();
  const ended = await fixture.db
    .tx((tx) => tx.query('SET LOCAL statement_timeout = 10').then(() => tx.query('SELECT pg_sleep(60)')))
    .catch((error: unknown) => error);
  expect(restAfter(ended, 0)).toBeGreaterThan(0);
});
