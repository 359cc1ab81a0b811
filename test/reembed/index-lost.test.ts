import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import { getSpace } from '../../src/catalog/space.js';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { validIndexes } from '../../src/maintenance/reindex.js';
import { listTargets } from '../../src/maintenance/targets.js';
import * as control from '../../src/reembed/control.js';
import { controlMigration } from '../../src/reembed/controller.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { readSources } from '../../src/status/readings.js';
import { indexName } from '../../src/store/index-state.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { deps, start, stepUntil, workUntil } from './support.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
});
afterEach(() => fixture.close());

async function source(partitions: number): Promise<void> {
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text) ${partitions > 0 ? 'PARTITION BY RANGE (id)' : ''}`);
  for (let i = 0; i < partitions; i++) {
    await db.exec(`CREATE TABLE doc_${i} PARTITION OF doc FOR VALUES FROM (${i * 100}) TO (${(i + 1) * 100})`);
  }
  await db.exec(`INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(0, 99) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
}

test('an index that goes while the space is checked is built again', async () => {
  const { db } = fixture;
  await source(0);
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' });
  await stepUntil(fixture, id, 'verifying');
  const to = await getSpace(db, toSpaceId);
  await db.exec(`DROP INDEX ${to && indexName(to)}`);
  // As the gates say; they would without end.
  const gate = { name: 'index', passed: false, value: 'none', bound: 'valid' };
  const there = () => db.query('SELECT 1 WHERE to_regclass($1) IS NOT NULL', [to && indexName(to)]);
  const runGates = async () => ((await there()).length > 0 ? [] : [gate]);
  expect(await workUntil(fixture, id, ['ready'], { runGates })).toMatchObject({ state: 'ready' });
  expect(await there()).toHaveLength(1);
});

test('a round of gates that fails is not begun again at once', async () => {
  await source(0);
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'none' });
  await stepUntil(fixture, id, 'verifying');
  let rounds = 0;
  const runGates = async () => {
    rounds += 1;
    throw new Error('canceling statement due to statement timeout');
  };
  const look = () => controlMigration(deps(fixture.db, { runGates }), id, new AbortController().signal);
  await expect(look()).rejects.toThrow('canceling');
  expect(await look()).toBeGreaterThan(10_000);
  expect(await getMigration(fixture.db, id)).toMatchObject({ state: 'verifying', tries: 1 });
  expect(rounds).toBe(1);
  await control.resumeMigration(fixture.db, 'doc');
  expect(await workUntil(fixture, id, ['ready'])).toMatchObject({ state: 'ready' });
});

test('a leaf that readers hold is waited for: no build has failed', { timeout: 120_000 }, async () => {
  await source(2);
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' });
  const to = await getSpace(fixture.db, toSpaceId);
  await stepUntil(fixture, id, 'indexing');
  const now = await getSpace(fixture.db, toSpaceId);
  const reader = new pg.Client({ connectionString: fixture.url });
  await reader.connect();
  try {
    const leafIndex = async () => {
      const { rows } = await reader.query<{ name: string }>(
        `SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = 'doc_0'::regclass AND indisvalid
           AND indexrelid::regclass::text LIKE $1 || '%'`,
        [indexName(now ?? to ?? { id: 0 })],
      );
      return rows[0]?.name;
    };
    const building = workUntil(fixture, id, ['ready']);
    building.catch(() => {}); // Seen where it is awaited.
    const name = await eventually(leafIndex, { what: "the leaf's index", intervalMs: 1 });
    await reader.query(`BEGIN; LOCK TABLE doc_0 IN ACCESS SHARE MODE; COMMENT ON INDEX ${name} IS 'held'`);
    const later = async () => (await getMigration(fixture.db, id))?.reason?.startsWith('the index is built later');
    await eventually(later, { timeoutMs: 60_000, what: 'the lock time-out' });
    expect(await getMigration(fixture.db, id)).toMatchObject({ state: 'indexing', tries: 0 });
    await reader.query('COMMIT');
    expect(await building).toMatchObject({ state: 'ready' });
  } finally {
    await reader.end();
  }
});

test('the index of a partition that came later is tended under a name of our own', async () => {
  const { db } = fixture;
  await source(1);
  await db.query(`UPDATE freshvec.space SET index_kind = 'hnsw'`);
  expect(await buildIndexes(db)).toBe(1);
  await db.exec(`CREATE TABLE doc_new PARTITION OF doc FOR VALUES FROM (100) TO (200);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(100, 130) i`);
  await fixture.work();
  await buildIndexes(db);
  const [target] = await listTargets(db, 'doc');
  const tended = target ? await validIndexes(db, target) : [];
  expect(tended.map(({ relation }) => relation.name).sort()).toEqual(['doc_0', 'doc_new']);
  await buildIndexes(db);
  expect(await db.query(`SELECT count(*) AS n FROM pg_index WHERE indrelid = 'doc_new'::regclass`)).toEqual([{ n: 2 }]);
});

test('`status` says so where no process carries a move out, and metrics tell of the move', async () => {
  const { db } = fixture;
  await source(0);
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
  expect((await migrationStatus(db, 'doc')).reason).toBe(null);
  const { sources } = await readSources(db, { statementMs: 5_000, budgetMs: 30_000, onError: () => {} });
  expect(sources).toMatchObject([{ source: 'doc', migration: { state: 'planned', paused: false } }]);
  await db.query(`UPDATE freshvec.migration_event SET at = at - interval '1 minute' WHERE migration_id = $1`, [id]);
  expect((await migrationStatus(db, 'doc')).reason).toMatch(/no process with the role `reembed` carries it out/);
  await db.query(
    `INSERT INTO freshvec.singleton (name, token, expires_at)
     VALUES ('reembed:' || $1::int, gen_random_uuid(), now() + interval '1 minute')`,
    [id],
  );
  expect((await migrationStatus(db, 'doc')).reason).toBe(null);
});

test('builds of partitions that came to their end are no tries of the next one', async () => {
  const { db } = fixture;
  await source(4);
  await db.exec(`INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(100, 399) i`);
  await fixture.work();
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' });
  await stepUntil(fixture, id, 'indexing');
  const built = async () => {
    const there = await db.query(
      `SELECT FROM pg_index WHERE indisvalid AND indrelid IN (SELECT relid FROM pg_partition_tree('doc') WHERE isleaf)
         AND indexrelid::regclass::text LIKE 'freshvec_space_' || $1::int || '%'`,
      [toSpaceId],
    );
    return there.length;
  };
  // A process that is killed after each: its try was counted before CREATE INDEX, and nobody takes it back.
  for (let leaves = 1; leaves <= 4; leaves++) {
    const stop = new AbortController();
    const working = controlMigration(deps(db), id, stop.signal);
    await eventually(async () => (await built()) >= leaves, { what: `${leaves} indexes`, intervalMs: 1 });
    stop.abort();
    await working;
    await db.query(`UPDATE freshvec.migration SET tries = tries + 1 WHERE id = $1 AND state = 'indexing'`, [id]);
  }
  expect(await workUntil(fixture, id, ['ready'])).toMatchObject({ state: 'ready' });
});
