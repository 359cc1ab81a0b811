import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { indexUse } from '../../src/reembed/gates/index-use.js';
import { overlapGate, readOverlaps } from '../../src/reembed/gates/overlap.js';
import { recallGate } from '../../src/reembed/gates/recall.js';
import { recallCurve, shareFound } from '../../src/search/recall-curve.js';
import { indexName } from '../../src/store/index-state.js';
import { vectorTable } from '../../src/store/table.js';
import { contextOf, onBoth, type TwoSpaces, twoSpaces } from './two-spaces.js';

test('a hit counts by its distance', () => {
  const near = (...distances: number[]) => distances.map((distance, i) => ({ key: String(i), distance }));
  expect(shareFound(near(0.1, 0.2, 0.2), near(0.1, 0.2, 0.2))).toBe(1);
  expect(shareFound(near(0.1, 0.2), near(0.1, 0.3))).toBe(0.5);
  // Equal vectors under other keys are as good.
  expect(shareFound(near(0.1, 0.2), near(0.2, 0.2))).toBe(1);
  expect(shareFound(near(0.1, 0.2, 0.3, 0.4), near(0.1))).toBe(0.25);
  expect(shareFound(near(-0.9, -0.5), near(-0.9, -0.4))).toBe(0.5);
  expect(shareFound(near(0.1), [])).toBe(0);
  expect(shareFound([], [])).toBe(1);
});

onBoth((fixture, engine) => {
  const gateOf = async (spaces: TwoSpaces, smallRows = 10_000) =>
    (await indexUse(contextOf(fixture(), spaces, { smallRows }))).gate;

  test.each(['column', 'table'] as const)('index: valid, fitting and used, or why not (%s)', async (store) => {
    const { db } = fixture();
    const table = `ix_${store}`;
    // So many that no planner would rather read them all, however densely they lie.
    const spaces = await twoSpaces(fixture(), { table, rows: 2000, store });
    const { to } = spaces;
    const name = indexName(to);
    const schema = store === 'column' ? 'public' : 'freshvec';
    const on = store === 'column' ? `${table} USING hnsw (embedding_2` : `${vectorTable(to)} USING hnsw (embedding`;
    const gate = await gateOf(spaces);
    expect(gate).toMatchObject({ name: 'index', passed: true, bound: 'index scan' });

    await db.exec(`DROP INDEX ${schema}.${name}`);
    expect(await gateOf(spaces)).toMatchObject({ passed: false, note: expect.stringMatching(/has no vector index/) });
    expect(await recallGate(contextOf(fixture(), spaces), await indexUse(contextOf(fixture(), spaces)))).toMatchObject({
      passed: false,
      value: null,
      note: expect.stringMatching(/no index answers/),
    });

    await db.exec(`CREATE INDEX ${name} ON ${on} vector_l2_ops)`);
    expect(await gateOf(spaces)).toMatchObject({
      passed: false,
      value: 'unfit',
      note: expect.stringMatching(/vector_l2_ops, but searches need vector_cosine_ops/),
    });
    await db.exec(`DROP INDEX ${schema}.${name}; CREATE INDEX ${name} ON ${on} vector_cosine_ops)`);
    expect(await gateOf(spaces)).toMatchObject({ passed: true });

    await db.exec(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = '${schema}.${name}'::regclass`);
    expect(await gateOf(spaces)).toMatchObject({
      passed: false,
      value: 'unfit',
      note: expect.stringContaining(`DROP INDEX CONCURRENTLY "${schema}"."${name}"`),
    });
    await db.exec(`UPDATE pg_index SET indisvalid = true WHERE indexrelid = '${schema}.${name}'::regclass`);
    expect(await gateOf(spaces)).toMatchObject({ passed: true });
  });

  test('index: a small table may be read as a whole, a large one not', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'ix_small', rows: 30 });
    const small = await gateOf(spaces, 30);
    expect(small).toMatchObject({ passed: true, value: 'sequential scan' });
    expect(small.note).toMatch(/at no more than 30 rows/);
    const large = await gateOf(spaces, 29);
    expect(large).toMatchObject({ passed: false, value: 'sequential scan' });
    expect(large.note).toContain('ANALYZE "public"."ix_small"');
    // Its recall is measured all the same, by the index.
    const context = contextOf(fixture(), spaces, { smallRows: 30 });
    expect(await recallGate(context, await indexUse(context))).toMatchObject({ passed: true, value: 1 });
    await db.query(`UPDATE freshvec.space SET index_kind = 'none' WHERE id = $1`, [spaces.to.id]);
    const without = { ...spaces, to: { ...spaces.to, index: { ...spaces.to.index, kind: 'none' as const } } };
    expect(await gateOf(without, 0)).toMatchObject({ passed: true, value: 'none' });
    expect(await recallGate(context, { answers: false, gate: small })).toMatchObject({ passed: false });
    const exact = contextOf(fixture(), without);
    expect(await recallGate(exact, await indexUse(exact))).toMatchObject({
      passed: true,
      value: 1,
      note: 'searches are exact',
    });
  });

  test('index: of a large table, what an index of the filter leaves may be little', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), {
      table: 'ix_filter',
      rows: 2000,
      create: `CREATE TABLE ix_filter (id int PRIMARY KEY, body text, kind int GENERATED ALWAYS AS (id % 100) STORED);
        CREATE INDEX ON ix_filter (kind)`,
      where: 'kind = 7',
    });
    expect(await gateOf(spaces, 500)).toMatchObject({ passed: true, value: 'sequential scan' });
    expect(await gateOf(spaces, 19)).toMatchObject({ passed: false });
    await db.exec('DROP INDEX ix_filter_kind_idx');
    expect(await gateOf(spaces, 500)).toMatchObject({ passed: false });
  });

  test('index: each leaf of a partitioned source has one', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), {
      table: 'ix_parts',
      rows: 500,
      create: `CREATE TABLE ix_parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
        CREATE TABLE ix_parts_a PARTITION OF ix_parts FOR VALUES FROM (0) TO (250);
        CREATE TABLE ix_parts_b PARTITION OF ix_parts FOR VALUES FROM (250) TO (1000)`,
    });
    expect(await gateOf(spaces)).toMatchObject({ passed: true });
    await db.exec(`CREATE TABLE ix_parts_c PARTITION OF ix_parts FOR VALUES FROM (1000) TO (2000)`);
    // ATTACH builds what the parent has; without the parent's, a leaf may be left out.
    await db.exec(`DROP INDEX ${indexName(spaces.to)}; CREATE INDEX ON ix_parts_a USING hnsw (embedding_2 vector_cosine_ops);
      CREATE INDEX ON ix_parts_b USING hnsw (embedding_2 vector_cosine_ops)`);
    const gate = await gateOf(spaces);
    expect(gate).toMatchObject({ passed: false });
    expect(gate.note).toContain('"public"."ix_parts_c" has no vector index');
    expect(gate.note).not.toContain('ix_parts_a');
  });

  test('recall: an index that finds too little blocks, and the ef_search that is enough is said', async () => {
    const { db } = fixture();
    const rows = engine === 'postgres' ? 2000 : 1000;
    const spaces = await scattered(db, fixture, rows);
    const { source, to } = spaces;
    // The smallest graph that pgvector makes: half of the neighbours are lost at first.
    await db.exec(
      `CREATE INDEX ${indexName(to)} ON scattered_${rows} USING hnsw (embedding_2 vector_cosine_ops) WITH (m = 2, ef_construction = 4)`,
    );
    const settings = { efSearch: 11, recallQueries: 20, recall: 0.9 };
    const context = contextOf(fixture(), spaces, settings);
    const use = await indexUse(context);
    expect(use.answers).toBe(true);
    const gate = await recallGate(context, use);
    expect(gate).toMatchObject({ name: 'recall', passed: false, bound: 0.9 });
    expect(gate.value).toBeLessThan(0.7);
    expect(gate.note).toMatch(
      /recall@10 of 20 stored vectors at ef_search 11; (ef_search \d+ reaches|even ef_search 1000)/,
    );
    const curve = await recallCurve(db, source, to, [11, 80, 1000], { sample: 20 });
    const [few, some, many] = curve.points.map(({ recall }) => recall);
    expect(few).toBe(gate.value);
    expect(some).toBeGreaterThan(few ?? 1);
    expect(many).toBeGreaterThan(some ?? 1);
    expect(curve).toMatchObject({ queries: 20, exactMs: { length: 20 } });

    await db.exec(
      `DROP INDEX ${indexName(to)}; CREATE INDEX ${indexName(to)} ON scattered_${rows} USING hnsw (embedding_2 vector_cosine_ops) WITH (m = 8, ef_construction = 40)`,
    );
    const wide = contextOf(fixture(), spaces, { ...settings, efSearch: 1000, recall: 0.98 });
    expect(await recallGate(wide, await indexUse(wide))).toMatchObject({
      passed: true,
      note: 'recall@10 of 20 stored vectors at ef_search 1000',
    });
    const narrow = contextOf(fixture(), spaces, { ...settings, efSearch: 11, recall: 0.98 });
    const advised = await recallGate(narrow, await indexUse(narrow));
    expect(advised.passed).toBe(false);
    const [, ef] = /ef_search (\d+) reaches .* set reembed\.gates\.efSearch/.exec(advised.note ?? '') ?? [];
    const enough = contextOf(fixture(), spaces, { ...settings, efSearch: Number(ef), recall: 0.98 });
    expect(await recallGate(enough, await indexUse(enough))).toMatchObject({ passed: true });
  });

  test('overlap: the part of the neighbours that both models have, for information', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'over', rows: 120, indexed: false });
    const context = contextOf(fixture(), spaces, { overlapRows: 20 });
    const overlaps = await readOverlaps(context);
    expect(overlaps).toHaveLength(20);
    const gate = overlapGate(overlaps);
    expect(gate).toMatchObject({ name: 'overlap', passed: true, advisory: true, bound: null });
    expect(gate.value).toBeGreaterThan(0.2);
    expect(gate.value).toBeLessThan(1);
    for (const { fromDistances, toDistances } of overlaps) {
      expect(fromDistances).toHaveLength(10);
      expect(toDistances).toEqual([...toDistances].sort((a, b) => a - b));
    }
    // A space against itself has all of them.
    const same = await readOverlaps({ ...context, to: spaces.from });
    expect(overlapGate(same).value).toBe(1);
    await db.query('UPDATE over SET embedding_2 = NULL, embedding_2_model = NULL, embedding_2_hash = NULL');
    expect(overlapGate(await readOverlaps(context))).toMatchObject({ passed: true, value: null });
  });
});

/** Vectors without any structure, which an HNSW index finds hardest; no index yet. */
async function scattered(
  db: Database,
  fixture: () => Parameters<typeof twoSpaces>[0],
  rows: number,
): Promise<TwoSpaces> {
  const table = `scattered_${rows}`;
  const spaces = await twoSpaces(fixture(), { table, rows: 0, indexed: true });
  await db.exec(
    `DROP INDEX ${indexName(spaces.to)}; INSERT INTO ${table} (id, body) SELECT i, 'row ' || i FROM generate_series(1, ${rows}) i`,
  );
  await db.query(
    `UPDATE ${table} t SET embedding_2 = v.vector::real[]::vector, embedding_2_hash = freshvec.content_hash(body), embedding_2_model = $1
     FROM (SELECT i, array_agg((hashint8(i * 1000 + d)::float8 / 2147483648)::real) AS vector
           FROM generate_series(1, ${rows}) i, generate_series(1, 256) d GROUP BY i) v WHERE v.i = t.id`,
    [spaces.to.fingerprint],
  );
  // Nobody is to embed them.
  await db.exec('DELETE FROM freshvec.change');
  await db.exec(`VACUUM ANALYZE ${table}`);
  return spaces;
}
