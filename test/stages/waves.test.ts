import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { inWaves } from '../../src/stages/waves.js';
import { drainAlone } from '../support/drain-alone.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { othersEnded } from '../support/others-ended.js';

const ROWS = 400;

let fixture: Fixture | undefined;
afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

/** Tries of the same: another test's transaction may begin meanwhile, and hold up what the waves make room by. */
const TRIES = 5;

describe.each(['plain', 'partitioned'] as const)('beside an index on other vectors, %s', (kind) => {
  test('most rows of full pages stay on their page, and out of that index', async () => {
    fixture = await openFixture();
    const shares: number[] = [];
    for (let i = 0; i < TRIES && !shares.some((share) => share > 0.35); i++)
      shares.push(await shareThatStays(fixture, kind, `doc_${i}`));
    // Written together, a tenth of them.
    expect(Math.max(...shares), shares.join()).toBeGreaterThan(0.35);
  });
});

async function shareThatStays(to: Fixture, kind: 'plain' | 'partitioned', table: string): Promise<number> {
  const { db } = to;
  const leaves = `CREATE TABLE ${table}_0 PARTITION OF ${table} FOR VALUES FROM (0) TO (201);
    CREATE TABLE ${table}_1 PARTITION OF ${table} DEFAULT;`;
  await db.exec(`CREATE TABLE ${table} (id int PRIMARY KEY, body text, other vector(384)) ${kind === 'plain' ? '' : 'PARTITION BY RANGE (id)'};
    ${kind === 'plain' ? '' : leaves}
    INSERT INTO ${table} SELECT i, 'text ' || i, (SELECT array_agg(sin(i * j)) FROM generate_series(1, 384) j)::vector FROM generate_series(1, ${ROWS}) i;
    CREATE INDEX ON ${table} USING hnsw (other vector_l2_ops)`);
  const { space, store } = await to.add({
    table,
    content: { columns: ['body'] },
    model: 'fake/a@768',
    store: 'column',
    index: 'none',
  });
  const places = () =>
    db.query(`SELECT id, tableoid || ':' || (ctid::text::point)[0] AS page FROM ${table} ORDER BY id`);
  const before = await places();
  await othersEnded(db);
  // By one slot: transactions of others may see what a wave left behind, which is then not free yet.
  await drainAlone(to, space.id, ROWS);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: ROWS, fresh: ROWS });
  const after = await places();
  return after.filter(({ page }, i) => page === before[i]?.page).length / ROWS;
}

test('waves have every row once, in their order, and share out the rows of a page', () => {
  const rows = fc.array(fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }), { maxLength: 80 });
  fc.assert(
    fc.property(rows, (pages) => {
      const given = pages.map((page, at) => ({ at, page: page === undefined ? undefined : `1:${page}` }));
      const waves = inWaves(given);
      expect(waves.map(({ row }) => row.at).sort((a, b) => a - b)).toEqual(given.map(({ at }) => at));
      for (const [i, { row, wave }] of waves.entries()) {
        const next = waves[i + 1];
        if (next) expect(next.wave > wave || (next.wave === wave && next.row.at > row.at)).toBe(true);
        if (row.page === undefined) expect(wave).toBe(0);
      }
      for (const page of new Set(given.flatMap((row) => row.page ?? []))) {
        const count = given.filter((row) => row.page === page).length;
        const sizes = new Map<number, number>();
        for (const { row, wave } of waves) if (row.page === page) sizes.set(wave, (sizes.get(wave) ?? 0) + 1);
        expect(sizes.size).toBe(Math.min(8, count));
        expect(Math.max(...sizes.values())).toBe(Math.ceil(count / 8));
      }
    }),
  );
});
