import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openPostgres } from '../../src/db/postgres.js';
import { indexSize } from '../../src/maintenance/bloat.js';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { reindex, validIndexes } from '../../src/maintenance/reindex.js';
import { reindexSource } from '../../src/maintenance/reindex-source.js';
import { listRuns } from '../../src/maintenance/run-log.js';
import { DEFAULT_MAINTENANCE, runService } from '../../src/maintenance/services.js';
import { listTargets } from '../../src/maintenance/targets.js';
import { vacuum } from '../../src/maintenance/vacuum.js';
import { measureRecall } from '../../src/search/recall.js';
import { readBuild, writesOf } from '../../src/store/build-record.js';
import { openTransaction, vectorIndexes } from '../faults/index-builds.js';
import { createRole } from '../faults/roles.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { vectorSource } from './vector-source.js';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

const SETTINGS = { ...DEFAULT_MAINTENANCE, byPerson: false, minBytes: 0, bloatRatio: 1.5, recallTarget: 0.5 } as const;
const ROWS = 1_000;

async function targetOf(source: string) {
  const [target] = await listTargets(fixture.db, source);
  if (!target) throw new Error('no target');
  return target;
}

async function sizeOf(source: string, exact = true) {
  const target = await targetOf(source);
  const [index] = await validIndexes(fixture.db, target);
  if (!index) throw new Error('no index');
  const column = target.space.store === 'column' ? target.space.column : 'embedding';
  return indexSize(fixture.db, target.space, index, column, { exact });
}

/** Waits until the statistics tell of so many writes: a connection keeps its own to itself for up to ten seconds. */
const writesKnown = (table: string, atLeast: number) =>
  eventually(async () => (await writes(table)) >= atLeast, { timeoutMs: 30_000, what: `statistics of ${table}` });
const writes = async (table: string) => {
  const [row] = await fixture.db.query<{ oid: number }>('SELECT $1::text::regclass::oid::int8 AS oid', [table]);
  return writesOf(fixture.db, row?.oid ?? 0);
};

/** Every vector is written anew, so that the index gets an entry for each. */
const edits = async (source: string, rounds: number) => {
  const { space } = await targetOf(source);
  const table = space.store === 'column' ? source : `freshvec.vector_${space.id}`;
  const [count] = await fixture.db.query<{ rows: number }>(`SELECT count(*) AS rows FROM ${table}`);
  const before = await writes(table);
  // On a connection that ends: until then it keeps its statistics to itself.
  await fixture.db.session(async (session) => {
    for (let i = 0; i < rounds; i++) {
      await session.query(
        `UPDATE ${table} SET embedding = (SELECT array_agg(x + 0.01 * random()) FROM unnest(embedding::real[]) x)::vector`,
      );
    }
  });
  await writesKnown(table, before + rounds * (count?.rows ?? 0));
};

describe('size', () => {
  test.each([
    ['vector', 8, 16],
    ['vector', 384, 16],
    ['halfvec', 384, 8],
    ['vector', 1536, 16],
    ['vector', 2000, 16],
  ] as const)("pgvector's layout is foreseen: %s(%i), m %i", async (type, dimensions, m) => {
    const { db } = fixture;
    const table = `layout_${type}_${dimensions}`;
    await vectorSource(fixture, { table, rows: 300, dimensions, type, m });
    expect(await buildIndexes(db)).toBe(1);
    const { ratio, vectors } = await sizeOf(table);
    expect(vectors).toBe(300);
    expect(ratio).toBeGreaterThan(0.85);
    expect(ratio).toBeLessThan(1.15);
  });

  test('a build is on record with the vectors it put in, whatever the statistics say later', async () => {
    const { db } = fixture;
    const { space, source } = await vectorSource(fixture, {
      table: 'recorded',
      rows: 1_500,
      dimensions: 8,
      nulls: 500,
    });
    await buildIndexes(db);
    const build = await readBuild(db, space.id, source.relation.oid);
    expect(build).toMatchObject({ vectors: 1_500, recall: null, lookedMsAgo: null });
    await db.session((session) => session.query('ANALYZE recorded'));
    const planned = await sizeOf('recorded', false);
    expect(planned.ratio).toBeGreaterThan(0.9);
    expect(planned.ratio).toBeLessThan(1.1);
    expect((await sizeOf('recorded')).ratio).toBeCloseTo(1, 1);
  });
});

describe('recall', () => {
  test('is that of the index, and falls where the index does not find', async () => {
    const { db } = fixture;
    const { source, space } = await vectorSource(fixture, {
      table: 'found',
      rows: ROWS,
      dimensions: 32,
      m: 2,
      efConstruction: 4,
    });
    await expect(measureRecall(db, source, space)).rejects.toMatchObject({ code: 'index_unused' });
    await buildIndexes(db);
    const good = await measureRecall(db, source, space, {
      sample: 30,
      efSearch: 800,
      indexName: `freshvec_space_${space.id}`,
    });
    const poor = await measureRecall(db, source, space, { sample: 30, efSearch: 11 });
    expect(good).toMatchObject({ queries: 30, efSearch: 800 });
    expect(poor.recall).toBeLessThan(good.recall);
    expect(good.recall).toBeGreaterThan(0.5);
    await expect(measureRecall(db, source, space, { indexName: 'another' })).rejects.toMatchObject({
      code: 'index_unused',
    });
    await expect(measureRecall(db, source, space, { budgetMs: 0.1, sample: 1_000, k: 900 })).rejects.toMatchObject({
      code: 'recall_too_slow',
    });
    await expect(measureRecall(db, source, space, { k: 0 })).rejects.toMatchObject({ code: 'recall_request_invalid' });
  });

  test.each(['column', 'table'] as const)(
    'equal vectors are no misses, and no vectors no question (%s)',
    async (store) => {
      const { db } = fixture;
      const table = `equal_${store}`;
      const { source, space } = await vectorSource(fixture, { table, rows: 600, dimensions: 8, store, distinct: 30 });
      await buildIndexes(db);
      expect((await measureRecall(db, source, space, { sample: 20 })).recall).toBeGreaterThan(0.95);
      await db.exec(`DELETE FROM ${table}; DELETE FROM freshvec.change; DELETE FROM freshvec.change_pack`);
      if (store === 'table') await db.exec(`DELETE FROM freshvec.vector_${space.id}`);
      expect(await measureRecall(db, source, space)).toMatchObject({ recall: 1, queries: 0 });
    },
  );

  test('of a partitioned source as a whole, and of one leaf', async () => {
    const { db } = fixture;
    const { source, space } = await vectorSource(fixture, { table: 'shards', rows: 900, dimensions: 8, partitions: 3 });
    await buildIndexes(db);
    await db.session((session) => session.query('ANALYZE shards'));
    const indexName = `freshvec_space_${space.id}`;
    expect((await measureRecall(db, source, space, { sample: 10, indexName })).recall).toBeGreaterThan(0.9);
    const leaf = { schema: 'public', name: 'shards_1' };
    expect((await measureRecall(db, source, space, { sample: 10, relation: leaf })).queries).toBe(10);
  });
});

describe('reindex', () => {
  test.each(['column', 'table'] as const)(
    'a bloated index is found, built again, and then left alone (%s)',
    async (store) => {
      const { db } = fixture;
      const table = `bloated_${store}`;
      await vectorSource(fixture, { table, rows: ROWS, dimensions: 32, store });
      await buildIndexes(db);
      expect(await reindex(db, { ...SETTINGS, source: table })).toBe(0);
      const fresh = await sizeOf(table);
      await edits(table, 3);
      const bloated = await sizeOf(table);
      expect(bloated.ratio).toBeGreaterThan(1.5);
      expect(await reindex(db, { ...SETTINGS, source: table, minBytes: bloated.bytes + 1 })).toBe(0);
      expect(await reindex(db, { ...SETTINGS, source: table })).toBe(1);
      const after = await sizeOf(table);
      expect(after.bytes).toBeLessThan(fresh.bytes * 1.1);
      expect(after.ratio).toBeLessThan(1.1);
      expect(await reindex(db, { ...SETTINGS, source: table })).toBe(0);
      const [run] = await listRuns(db, { limit: 1 });
      expect(run).toMatchObject({
        ...{ service: 'reindex', source: table, outcome: 'done', byPerson: false, error: null },
        ...{ bytesBefore: bloated.bytes, bytesAfter: after.bytes },
        did: expect.stringMatching(/^rebuilt: \d\.\d times as large as it need be$/),
      });
      expect(run?.recallAfter).toBeGreaterThanOrEqual((run?.recallBefore ?? 2) - 0.05);
    },
  );

  test('only the leaf that is bloated is built again', async () => {
    const { db } = fixture;
    const { space } = await vectorSource(fixture, { table: 'leaves', rows: 3_000, dimensions: 32, partitions: 3 });
    await buildIndexes(db);
    await db.query(
      `UPDATE leaves_1 SET embedding = (SELECT array_agg(x + 0.01) FROM unnest(embedding::real[]) x)::vector`,
    );
    const before = await vectorIndexes(db);
    expect(await reindex(db, { ...SETTINGS, source: 'leaves', bloatRatio: 1.4 })).toBe(1);
    const [run] = await listRuns(db, { limit: 1 });
    const [leaf] = await db.query<{ oid: number }>(`SELECT 'leaves_1'::regclass::oid::int8 AS oid`);
    expect(run).toMatchObject({ relation: 'public.leaves_1', index: `freshvec_space_${space.id}_${leaf?.oid}` });
    expect(await vectorIndexes(db)).toEqual(before);
  });

  test('recall that fell is a reason once; recall that never was better is none', async () => {
    const { db } = fixture;
    const { source, space } = await vectorSource(fixture, {
      table: 'fallen',
      rows: ROWS,
      dimensions: 32,
      m: 2,
      efConstruction: 4,
    });
    await writesKnown('fallen', ROWS);
    await buildIndexes(db);
    const look = { ...SETTINGS, source: 'fallen', recallTarget: 1, lookEveryMs: 0, bloatRatio: 100 };
    // Built just now: that is as good as it gets.
    expect(await reindex(db, look)).toBe(0);
    const build = await readBuild(db, space.id, source.relation.oid);
    expect(build?.recall).toBeLessThan(1);
    // No writes since: nothing is looked at.
    await db.query('UPDATE freshvec.index_build SET recall = 1 WHERE space_id = $1', [space.id]);
    expect(await reindex(db, look)).toBe(0);
    await edits('fallen', 1);
    expect(await reindex(db, look)).toBe(1);
    expect((await listRuns(db, { limit: 1 }))[0]?.did).toMatch(
      /^rebuilt: it finds [\d.]+ % of the nearest 10, below the target/,
    );
    await edits('fallen', 1);
    expect(await reindex(db, look)).toBeLessThanOrEqual(1);
  });

  test('a table that somebody holds is left alone, and that is on record', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'held', rows: ROWS, dimensions: 32 });
    await buildIndexes(db);
    await edits('held', 3);
    await db.tx(async (tx) => {
      await tx.query('LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE');
      expect(await reindex(db, { ...SETTINGS, source: 'held' })).toBe(0);
    });
    const [run] = await listRuns(db, { limit: 1 });
    expect(run).toMatchObject({ outcome: 'busy', error: expect.stringContaining('public.held is being') });
    expect(await reindex(db, { ...SETTINGS, source: 'held' })).toBe(1);
  });

  test('a transaction in the way ends the attempt after the lock time-out, and nothing is left of it', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'waited', rows: ROWS, dimensions: 32 });
    await buildIndexes(db);
    await edits('waited', 3);
    const before = await vectorIndexes(db);
    const holder = await openTransaction(fixture.url, 'BEGIN', 'INSERT INTO waited (id) VALUES (-1)');
    await expect(reindex(db, { ...SETTINGS, source: 'waited', lockTimeoutMs: 100 })).rejects.toMatchObject({
      code: '55P03',
    });
    await holder.end();
    expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ outcome: 'failed' });
    expect(await buildIndexes(db)).toBe(0); // Drops what could not be dropped while the transaction lasted.
    expect(await vectorIndexes(db)).toEqual(before);
  });
});

describe('vacuum', () => {
  test('of a table with dead rows: the bloated index first', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'dead', rows: ROWS, dimensions: 32 });
    await buildIndexes(db);
    await edits('dead', 3);
    const options = { ...SETTINGS, source: 'dead' };
    expect(await vacuum(db, options)).toBe(1);
    const [vacuumed, rebuilt] = (await listRuns(db, { limit: 2 })).sort((a, b) => (a.service < b.service ? 1 : -1));
    expect(rebuilt).toMatchObject({
      service: 'reindex',
      outcome: 'done',
      did: expect.stringContaining('before its table is vacuumed'),
    });
    expect(vacuumed).toMatchObject({
      ...{ service: 'vacuum', relation: 'public.dead', outcome: 'done' },
      did: expect.stringMatching(/^vacuumed: \d{4} dead rows before, 0 after \(freshvec_space_\d+ rebuilt first\)$/),
    });
    expect(rebuilt?.endedAt?.getTime()).toBeLessThanOrEqual(vacuumed?.endedAt?.getTime() ?? 0);
    expect(await vacuum(db, options)).toBe(0);
  });

  test('of a table of two sources: whichever of their indexes is bloated', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'shared', rows: ROWS, dimensions: 32 });
    const second = await fixture.add({
      ...{ table: 'shared', name: 'shared_second', content: { columns: ['body'] }, model: 'fake/n@32' },
      column: 'second',
    });
    await db.exec(`UPDATE shared SET second = embedding;
      DELETE FROM freshvec.change WHERE space_id = ${second.space.id};
      DELETE FROM freshvec.change_pack WHERE space_id = ${second.space.id};
      DELETE FROM freshvec.range WHERE space_id = ${second.space.id}`);
    await db.session((session) => session.query('VACUUM FULL shared'));
    await buildIndexes(db);
    await db.session(async (session) => {
      for (let i = 0; i < 3; i++)
        await session.query(
          'UPDATE shared SET second = (SELECT array_agg(x + 0.01 * random()) FROM unnest(second::real[]) x)::vector',
        );
    });
    // Only the second has a first size that it is compared with; the other one is as large as it may be.
    await db.query('UPDATE freshvec.index_build SET bytes = 10 * bytes WHERE space_id <> $1', [second.space.id]);
    expect(await vacuum(db, { ...SETTINGS, source: 'shared' })).toBe(1);
    const runs = await listRuns(db, { limit: 2 });
    expect(
      runs.filter(({ service }) => service === 'reindex'),
      JSON.stringify(runs),
    ).toMatchObject([{ source: 'shared_second', relation: 'public.shared', outcome: 'done' }]);
  });

  test('names who keeps the dead rows', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'kept', rows: ROWS, dimensions: 8, index: 'none' });
    const holder = await openTransaction(fixture.url, 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1');
    await edits('kept', 1);
    expect(await vacuum(db, { ...SETTINGS, source: 'kept' })).toBe(1);
    await holder.end();
    expect((await listRuns(db, { limit: 1 }))[0]?.did).toContain(
      `they are kept for pid ${holder.pid} (holder, idle in transaction)`,
    );
  });
});

describe('reindex of a source with other parameters', () => {
  const options = { lockTimeoutMs: 10_000 };

  test.each([
    ['plain', {}],
    ['in a table of its own', { store: 'table' as const }],
    ['partitioned', { partitions: 2 }],
  ])('swaps, and says so (%s)', async (what, shape) => {
    const { db } = fixture;
    const table = `swap_${what.replaceAll(' ', '_')}`;
    const { space } = await vectorSource(fixture, { table, rows: ROWS, dimensions: 16, ...shape });
    await buildIndexes(db);
    const names = await vectorIndexes(db);
    const report = await reindexSource(db, table, { index: 'hnsw', m: 24, efConstruction: 100 }, options);
    expect(report).toMatchObject({ outcome: 'swapped', index: { kind: 'hnsw', m: 24, efConstruction: 100 } });
    expect(report.runs.at(-1)).toMatchObject({
      outcome: 'done',
      did: 'swapped the index for one with m 24, ef_construction 100',
    });
    expect(await vectorIndexes(db)).toEqual(names);
    const [parameters] = await db.query<{ options: string[] }>(
      `SELECT reloptions AS options FROM pg_class WHERE relname = 'freshvec_space_${space.id}'`,
    );
    expect(parameters?.options).toEqual(['m=24', 'ef_construction=100']);
    expect(await reindexSource(db, table, { m: 24 }, options)).toMatchObject({ outcome: 'already', runs: [] });
    expect(await reindexSource(db, table, {}, options)).toMatchObject({ outcome: 'rebuilt' });
    expect(await buildIndexes(db)).toBe(0);
    expect(
      (await measureRecall(db, (await targetOf(table)).source, (await targetOf(table)).space)).recall,
    ).toBeGreaterThan(0.8);
  });

  test.each([
    ['the new one is half built', `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'NAME_next'::regclass`],
    ['both are there', ''],
    ['the old one is dropped', 'DROP INDEX NAME'],
    [
      'the old one is dropped, and the new one is not valid',
      `DROP INDEX NAME; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'NAME_next'::regclass`,
    ],
  ])('the schedule goes on after a kill: %s', async (what, sql) => {
    const { db } = fixture;
    const table = `killed_${what.length}`;
    const { space } = await vectorSource(fixture, { table, rows: 500, dimensions: 8 });
    await buildIndexes(db);
    const names = await vectorIndexes(db);
    const name = `freshvec_space_${space.id}`;
    await db.query('UPDATE freshvec.space SET m = 8 WHERE id = $1', [space.id]);
    await db.exec(
      `CREATE INDEX ${name}_next ON ${table} USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 64)`,
    );
    if (sql !== '') await db.exec(sql.replaceAll('NAME', name));
    expect(await buildIndexes(db)).toBe(1);
    expect(await buildIndexes(db)).toBe(0);
    expect(await vectorIndexes(db)).toEqual(names);
    const [found] = await db.query<{ def: string }>(`SELECT pg_get_indexdef('${name}'::regclass) AS def`);
    expect(found?.def).toContain(`m='8'`);
  });

  test('who takes it back has the old one, and the new one goes', async () => {
    const { db } = fixture;
    const { space } = await vectorSource(fixture, { table: 'back', rows: 500, dimensions: 8 });
    await buildIndexes(db);
    const names = await vectorIndexes(db);
    await db.exec(
      `CREATE INDEX freshvec_space_${space.id}_next ON back USING hnsw (embedding vector_cosine_ops) WITH (m = 8)`,
    );
    expect(await buildIndexes(db)).toBe(0);
    expect(await vectorIndexes(db)).toEqual(names);
  });

  test.each([
    ['before it was dropped', ''],
    ['while it was dropped', `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'NAME'::regclass`],
  ])('none, killed %s: the schedule goes on, and so does whoever asks again', async (when, sql) => {
    const { db } = fixture;
    const again = async (table: string) => reindexSource(db, table, { index: 'none' }, options);
    for (const [who, goOn] of [
      ['schedule', () => buildIndexes(db)],
      ['person', again],
    ] as const) {
      const table = `none_${who}_${when.length}`;
      const { space } = await vectorSource(fixture, { table, rows: 100, dimensions: 8 });
      await buildIndexes(db);
      // What is asked for is recorded first.
      await db.query(`UPDATE freshvec.space SET index_kind = 'none' WHERE id = $1`, [space.id]);
      if (sql !== '') await db.exec(sql.replaceAll('NAME', `freshvec_space_${space.id}`));
      await goOn(table);
      expect(await db.query('SELECT to_regclass($1) AS index', [`freshvec_space_${space.id}`])).toEqual([
        { index: null },
      ]);
      expect(await db.query('SELECT FROM freshvec.index_build WHERE space_id = $1', [space.id])).toEqual([]);
      const [run] = await listRuns(db, { limit: 1 });
      expect(run?.did).toMatch(new RegExp(`^dropped freshvec_space_${space.id}`));
      expect(await buildIndexes(db)).toBe(0);
      expect(await again(table)).toMatchObject({ outcome: 'already' });
    }
  });

  test('none drops it, and hnsw builds it', async () => {
    const { db } = fixture;
    const { space } = await vectorSource(fixture, { table: 'none', rows: 500, dimensions: 8, partitions: 2 });
    await buildIndexes(db);
    const all = await vectorIndexes(db);
    expect(await reindexSource(db, 'none', { index: 'none' }, options)).toMatchObject({ outcome: 'dropped' });
    const left = await vectorIndexes(db);
    expect(left).toEqual(all.filter(({ name }) => !name.startsWith(`freshvec_space_${space.id}`)));
    expect(left.length).toBe(all.length - 3);
    expect(await reindexSource(db, 'none', { index: 'none' }, options)).toMatchObject({ outcome: 'already' });
    await expect(reindexSource(db, 'none', {}, options)).rejects.toMatchObject({ code: 'reindex_request_invalid' });
    expect(await buildIndexes(db)).toBe(0);
    expect(await reindexSource(db, 'none', { index: 'hnsw' }, options)).toMatchObject({ outcome: 'built' });
    expect(await vectorIndexes(db)).toEqual(all);
  });

  test('what cannot be meant is refused, and nothing is changed', async () => {
    const { db } = fixture;
    await vectorSource(fixture, { table: 'wrong', rows: 10, dimensions: 8 });
    for (const request of [{ m: 1 }, { m: 40 }, { m: 101, efConstruction: 900 }, { index: 'none' as const, m: 4 }]) {
      await expect(reindexSource(db, 'wrong', request, options)).rejects.toMatchObject({
        code: 'reindex_request_invalid',
      });
    }
    expect((await targetOf('wrong')).space.index).toMatchObject({ m: 16, efConstruction: 64 });
    await expect(reindexSource(db, 'nowhere', {}, options)).rejects.toMatchObject({ code: 'source_unknown' });
  });
});

test('one heavy service at a time in the fleet; a run whose process died is said to be interrupted', async () => {
  const { db } = fixture;
  const context = { db, settings: DEFAULT_MAINTENANCE, byPerson: true };
  await db.exec(
    `INSERT INTO freshvec.singleton VALUES ('maintain', gen_random_uuid(), now() + interval '1 hour');
     INSERT INTO freshvec.maintenance_run (service, by_person, did) VALUES ('vacuum', false, 'vacuuming: 7 dead rows')`,
  );
  expect(await runService('vacuum', context)).toBe('busy');
  await expect(reindexSource(db, 'wrong', { m: 8 }, { lockTimeoutMs: 1 })).rejects.toMatchObject({
    code: 'maintenance_busy',
    message: expect.stringContaining('vacuum vacuuming: 7 dead rows'),
  });
  expect((await targetOf('wrong')).space.index.m).toBe(16);
  await db.exec(`UPDATE freshvec.singleton SET expires_at = now() WHERE name = 'maintain'`);
  expect(await runService('vacuum', context)).not.toBe('busy');
  const runs = await listRuns(db, { limit: 100 });
  expect(runs.filter(({ outcome }) => outcome === 'running')).toEqual([]);
  expect(runs.find(({ did }) => did === 'vacuuming: 7 dead rows')).toMatchObject({ outcome: 'interrupted' });
});

test('a writer of a partitioned source does not make the others wait behind the index of the whole', async () => {
  const { db } = fixture;
  await vectorSource(fixture, { table: 'busy', rows: 300, dimensions: 8, partitions: 2 });
  const holder = await openTransaction(fixture.url, 'BEGIN', 'INSERT INTO busy (id) VALUES (-1)');
  const building = buildIndexes(db, { source: 'busy' });
  await eventually(
    async () =>
      (await db.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'busy'::regclass AND mode = 'ShareLock'`))
        .length > 0,
    { intervalMs: 0, what: 'the build that waits' },
  );
  const other = await openTransaction(fixture.url, `SET lock_timeout = '2s'`, 'INSERT INTO busy (id) VALUES (-2)');
  await other.end();
  await holder.query('COMMIT');
  await holder.end();
  expect(await building).toBe(1);
});

test('a role that may not vacuum is told so, and what to grant', async () => {
  const { db } = fixture;
  await vectorSource(fixture, { table: 'not_mine', rows: ROWS, dimensions: 8, index: 'none' });
  await edits('not_mine', 1);
  const role = await createRole(fixture);
  await db.exec(
    `GRANT USAGE ON SCHEMA freshvec TO ${role.name}; GRANT ALL ON ALL TABLES IN SCHEMA freshvec TO ${role.name};
     GRANT SELECT ON not_mine TO ${role.name}`,
  );
  const theirs = openPostgres({ url: role.url, poolSize: 4, applicationName: 'test', onError: () => {} });
  const options = { ...SETTINGS, source: 'not_mine' };
  try {
    await expect(vacuum(theirs, options)).rejects.toMatchObject({
      code: 'privilege_missing',
      message: expect.stringContaining(`GRANT MAINTAIN ON "public"."not_mine" TO ${role.name}`),
    });
    expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ service: 'vacuum', outcome: 'failed' });
    await db.exec(`GRANT MAINTAIN ON not_mine TO ${role.name}`);
    expect(await vacuum(theirs, options)).toBe(1);
    expect((await listRuns(db, { limit: 1 }))[0]?.did).toMatch(/^vacuumed: \d+ dead rows before, 0 after$/);
  } finally {
    await theirs.close();
    await role.drop();
  }
});

test("somebody else's index serves: none is built beside it, and it is not touched", async () => {
  const { db } = fixture;
  await vectorSource(fixture, { table: 'foreign_one', rows: 300, dimensions: 8 });
  await db.exec('CREATE INDEX their_index ON foreign_one USING hnsw (embedding vector_cosine_ops)');
  expect(await buildIndexes(db, { source: 'foreign_one' })).toBe(0);
  expect(await reindex(db, { ...SETTINGS, source: 'foreign_one', bloatRatio: 0 })).toBe(0);
  await expect(reindexSource(db, 'foreign_one', { m: 24 }, { lockTimeoutMs: 1_000 })).rejects.toMatchObject({
    code: 'index_foreign',
    message: expect.stringContaining('answered by their_index'),
  });
  await db.exec('DROP INDEX their_index');
  expect(await reindexSource(db, 'foreign_one', { m: 24 }, { lockTimeoutMs: 1_000 })).toMatchObject({
    outcome: 'built',
  });
});

test('nothing is rebuilt while the first pass over the data is under way', async () => {
  const { db } = fixture;
  const { space, source } = await vectorSource(fixture, { table: 'loading', rows: ROWS, dimensions: 8 });
  await buildIndexes(db, { source: 'loading' });
  await db.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page) VALUES ($1, 'load', $2, 0, 0, 1)`,
    [space.id, source.relation.oid],
  );
  expect(await reindex(db, { ...SETTINGS, source: 'loading', bloatRatio: 0 })).toBe(0);
  expect(await reindexSource(db, 'loading', {}, { lockTimeoutMs: 1_000 })).toMatchObject({ outcome: 'later' });
  await db.query('DELETE FROM freshvec.range WHERE space_id = $1', [space.id]);
  expect(await reindex(db, { ...SETTINGS, source: 'loading', bloatRatio: 0 })).toBe(1);
});
