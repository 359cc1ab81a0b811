import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace } from '../../src/catalog/space.js';
import { asSingleton } from '../../src/claim/singleton.js';
import * as control from '../../src/reembed/control.js';
import { controlMigration } from '../../src/reembed/controller.js';
import type { ControllerDeps, StepContext, ThrottledWork } from '../../src/reembed/operation.js';
import { clearColumns } from '../../src/reembed/operations/clear-columns.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { othersEnded } from '../support/others-ended.js';
import { deps, start, workUntil } from './support.js';

const ROWS = 300;

/** The end of a move: the old vectors are taken away beside the HNSW index of the new ones. */
describe('clearing the old vectors', () => {
  let fixture: Fixture;
  let id: number;
  beforeEach(async () => {
    fixture = await openFixture();
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, ${ROWS}) i`);
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@64', index: 'none' });
    await fixture.work();
    ({ id } = await start(fixture, 'doc', { model: 'fake/b@64' }));
    await workUntil(fixture, id, ['ready']);
    await fixture.db.exec('CREATE INDEX ON doc USING hnsw (embedding_2 vector_cosine_ops)');
    await control.cutover(fixture.db, 'doc');
  });
  afterEach(() => fixture.close());

  async function contextWith(over: Partial<ControllerDeps> = {}): Promise<StepContext> {
    const { db } = fixture;
    const migration = await getMigration(db, id);
    const [from, to] = [await getSpace(db, migration?.fromSpaceId ?? 0), await getSpace(db, migration?.toSpaceId ?? 0)];
    if (!migration || !from || !to) throw new Error('the migration is gone');
    const { signal } = new AbortController();
    return { ...deps(db, over), migration, source: await getSource(db, 'doc'), from, to, signal };
  }

  async function left(): Promise<number> {
    const [row] = await fixture.db.query<{ n: number }>('SELECT count(embedding) AS n FROM doc');
    return row?.n ?? 0;
  }

  /** Every row has an old vector, and no page has room. */
  async function fillPages(): Promise<void> {
    await fixture.db.exec('UPDATE doc SET embedding = embedding_2');
    await fixture.db.session((session) => session.query('VACUUM FULL doc'));
  }

  async function leaseOn(): Promise<string> {
    return `index:${(await getSource(fixture.db, 'doc')).relation.oid}`;
  }

  test('begins with few rows, and most rows of full pages stay on them', async () => {
    const { db } = fixture;
    const places = () => db.query('SELECT (ctid::text::point)[0] AS page FROM doc ORDER BY id');
    const shares: number[] = [];
    // Tries of the same: another test's transaction may begin meanwhile, and hold up what the waves make room by.
    for (let i = 0; i < 5 && !shares.some((share) => share > 0.35); i++) {
      await fillPages();
      const before = await places();
      const context = await contextWith();
      await othersEnded(db);
      await clearColumns(context, context.from);
      expect(await left()).toBe(0);
      const after = await places();
      shares.push(after.filter(({ page }, at) => page === before[at]?.page).length / ROWS);
      const [first] = await db.query('SELECT count(*) AS rows FROM doc GROUP BY xmin ORDER BY age(xmin) DESC LIMIT 1');
      expect(first).toEqual({ rows: 3 });
    }
    expect(Math.max(...shares), shares.join()).toBeGreaterThan(0.35);
  });

  test('rests while the throttle says so, which asks for no provider, and says what is felt', async () => {
    const asked: ThrottledWork[] = [];
    let share = 0;
    const signal = { name: 'replica_lag', state: 'pressed', value: 9, bound: 1, unit: 's' } as const;
    const throttle: ControllerDeps['throttle'] = async (work) => {
      asked.push(work);
      return { share, signals: [signal] };
    };
    const context = await contextWith({ throttle });
    const cleared = clearColumns(context, context.from);
    await eventually(() => asked.length > 2, { what: 'a throttle that is asked again' });
    expect(await left()).toBe(ROWS);
    expect(asked.map(({ to }) => to)).toEqual(asked.map(() => undefined));
    expect(await getMigration(fixture.db, id)).toMatchObject({ share: 0, throttle: [signal] });
    share = 1;
    await cleared;
    expect(await left()).toBe(0);
  });

  test('a row that the table refuses to update keeps nobody from the others', async () => {
    await fixture.db.exec(`ALTER TABLE doc ADD CONSTRAINT later CHECK (id <> 7) NOT VALID`);
    const context = await contextWith();
    await clearColumns(context, context.from);
    // With those that were in the same transaction.
    expect(await left()).toBeGreaterThan(0);
    expect(await left()).toBeLessThan(ROWS / 2);
    await control.complete(fixture.db, 'doc');
    await workUntil(fixture, id, ['done']);
  });

  test('is done by the only one that tends the table', async () => {
    const { db } = fixture;
    const lease = await leaseOn();
    let holding = false;
    const throttle: ControllerDeps['throttle'] = async () => {
      holding = !(await asSingleton(db, lease, async () => {}));
      return { share: 1, signals: [] };
    };
    await asSingleton(db, lease, async () => {
      await control.complete(db, 'doc');
      const stop = new AbortController();
      const controlling = controlMigration(deps(db, { throttle }), id, stop.signal);
      const waits = async () => (await getMigration(db, id))?.reason?.includes('tends an index') ?? false;
      await eventually(waits, { what: 'a wait for the other one' });
      stop.abort();
      await controlling;
      expect(await left()).toBe(ROWS);
    });
    await workUntil(fixture, id, ['done'], { throttle });
    expect(holding).toBe(true);
  });

  test('ends its vacuum when the controller is to stop, and whoever comes next vacuums', async () => {
    const { db } = fixture;
    const [table] = await db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid::int8 AS oid`);
    const vacuums = async () => {
      const [row] = await db.query('SELECT vacuum_count::int AS n FROM pg_stat_all_tables WHERE relid = $1', [
        table?.oid,
      ]);
      return row?.n;
    };
    const stop = new AbortController();
    const before = await vacuums();
    await db.session(async (app) => {
      let held = false;
      // Rows may be written beside that lock, and vacuums wait for it.
      const throttle: ControllerDeps['throttle'] = async () => {
        if (!held) await app.query('LOCK TABLE doc IN SHARE UPDATE EXCLUSIVE MODE');
        held = true;
        return { share: 1, signals: [] };
      };
      const waiting = () =>
        db.query(
          `SELECT query FROM pg_stat_activity
           WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'VACUUM%'`,
        );
      await app.query('BEGIN');
      await control.complete(db, 'doc');
      const controlling = controlMigration(deps(db, { throttle }), id, stop.signal);
      await eventually(async () => (await waiting()).length > 0, { what: 'a vacuum', timeoutMs: 20_000 });
      expect(await waiting()).toEqual([{ query: 'VACUUM (ANALYZE, TRUNCATE FALSE) "public"."doc"' }]);
      stop.abort();
      await controlling;
      expect(await waiting()).toEqual([]);
      await app.query('ROLLBACK');
    });
    expect(await left()).toBe(0);
    expect(await vacuums()).toBe(before);
    await workUntil(fixture, id, ['done']);
    await eventually(async () => (await vacuums()) !== before, { what: 'a vacuum' });
  });
});

test('a partition that is detached while others are cleared keeps its vectors', async () => {
  const fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
    CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (1) TO (100);
    CREATE TABLE doc_2 PARTITION OF doc FOR VALUES FROM (100) TO (200);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(90, 109) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
  const { id } = await start(fixture, 'doc', { model: 'fake/b@8' });
  await workUntil(fixture, id, ['ready']);
  await control.cutover(db, 'doc');
  await control.complete(db, 'doc');
  let clearing = false;
  const throttle: ControllerDeps['throttle'] = async () => {
    if (!clearing) await db.exec('ALTER TABLE doc DETACH PARTITION doc_2');
    clearing = true;
    return { share: 1, signals: [] };
  };
  await workUntil(fixture, id, ['done'], { throttle });
  expect(clearing).toBe(true);
  expect(await db.query('SELECT count(embedding) AS n FROM doc_2')).toEqual([{ n: 10 }]);
  await fixture.close();
});
