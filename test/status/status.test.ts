import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sourceStatus } from '../../src/status/status.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

describe.each<Engine>(['postgres', 'pglite'])('status on %s', (engine) => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture(engine);
  });
  afterAll(() => fixture.close());

  test.each([
    ['never analyzed', 'plain'],
    ['analyzed while it was empty', 'empty'],
    ['in partitions, one analyzed', 'parted'],
  ])('is exact below 100,000 rows, however wide: %s', async (_, table) => {
    const { db } = fixture;
    const parted = table === 'parted';
    await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, body text) ${parted ? 'PARTITION BY HASH (id)' : ''}`);
    const leaves = parted ? [`${table}_0`, `${table}_1`] : [];
    for (const [i, leaf] of leaves.entries())
      await db.query(`CREATE TABLE ${leaf} PARTITION OF ${table} FOR VALUES WITH (MODULUS 2, REMAINDER ${i})`);
    for (const leaf of parted ? leaves : [table]) await db.query(`ALTER TABLE ${leaf} SET (autovacuum_enabled = off)`);
    if (table === 'empty') await db.query(`ANALYZE ${table}`);
    await fixture.add({ table, content: { columns: ['body'] }, model: 'fake/m@8', index: 'none' });
    await db.query(`INSERT INTO ${table} SELECT i, repeat('x', 1900) FROM generate_series(1, 12000) i`);
    if (parted) await db.query(`ANALYZE ${leaves[0]}`);
    const { sources } = await sourceStatus(db, { source: table });
    expect(sources[0]).toMatchObject({ rows: 12_000, stale: 12_000 });
    expect(sources[0]?.estimated).toBeUndefined();
  });
});
