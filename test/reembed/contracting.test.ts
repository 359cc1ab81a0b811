import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { sweep } from '../../src/maintenance/sweep.js';
import * as control from '../../src/reembed/control.js';
import { controlMigration } from '../../src/reembed/controller.js';
import type { ControllerDeps } from '../../src/reembed/operation.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { createPointerCache, search } from '../../src/search/index.js';
import { removeSource } from '../../src/source/index.js';
import { indexName } from '../../src/store/index-state.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';
import { deps, start, stepUntil, workUntil } from './support.js';

const TEXTS = 40;

/** The end of a move takes hours on a large table: what everybody else sees meanwhile. */
describe('while a space is taken away', () => {
  let fixture: Fixture;
  let stop: AbortController;
  beforeEach(async () => {
    fixture = await openFixture();
    stop = new AbortController();
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, ${TEXTS}) i`);
  });
  afterEach(() => fixture.close());

  async function switched(store: StoreKind): Promise<{ id: number; fromSpaceId: number }> {
    const { db } = fixture;
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none', store });
    await fixture.work();
    const migration = await start(fixture, 'doc', { model: 'fake/b@12' });
    await workUntil(fixture, migration.id, ['ready']);
    await control.cutover(db, 'doc');
    return migration;
  }

  /** A controller that comes to the clearing of the vectors and gets no further until it is stopped. */
  async function clearing(id: number): Promise<{ stop(): Promise<void> }> {
    let asked = 0;
    const throttle: ControllerDeps['throttle'] = async () => {
      asked += 1;
      return { share: 0, signals: [] };
    };
    const working = controlMigration(deps(fixture.db, { throttle }), id, stop.signal);
    await eventually(() => asked > 0, { what: 'the clearing' });
    return {
      async stop() {
        stop.abort();
        await working;
      },
    };
  }

  const columns = async () =>
    (
      await fixture.db.query<{ name: string }>(
        `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped`,
      )
    ).map(({ name }) => name);

  test('results have the columns that they had before', async () => {
    const { db, models } = fixture;
    const { id } = await switched('column');
    const embedQuery = async (spec: string, text: string) => {
      const { vectors } = await (await models.get(spec)).embed([text], { purpose: 'query' });
      return vectors[0] ?? new Float32Array();
    };
    const query = { text: 'text number 7', k: 3 };
    const shapes = async () => {
      const { results } = await search({ db, embedQuery, pointers: createPointerCache() }, 'doc', query);
      const bySql = await db.query<{ keys: string[] }>(
        `SELECT DISTINCT ARRAY(SELECT jsonb_object_keys(s.row)) AS keys
         FROM freshvec.live('doc') l, freshvec.search('doc', l.fingerprint, (SELECT embedding_2 FROM doc LIMIT 1), 3) s`,
      );
      return [...results.map(({ row }) => Object.keys(row)), ...bySql.map(({ keys }) => keys)];
    };
    const wanted = Array(4).fill(['id', 'body']);
    expect(await shapes()).toEqual(wanted);
    await control.complete(db, 'doc');
    const cleared = await clearing(id);
    expect(await columns()).toContain('embedding');
    expect(await shapes()).toEqual(wanted);
    await cleared.stop();
  });

  test.each([true, false])(
    'a source that is removed leaves nothing of it behind; vectors dropped: %s',
    async (drop) => {
      const { db } = fixture;
      const { id } = await switched('column');
      await control.complete(db, 'doc');
      const cleared = await clearing(id);
      const { notes } = await removeSource(db, 'doc', { dropVectors: drop });
      await cleared.stop();
      if (drop) expect(await columns()).toEqual(['id', 'body']);
      else expect(notes.join('\n')).toMatch(/embedding_2.*\n?.*embedding\b|embedding\b.*\n?.*embedding_2/s);
    },
  );

  test('a reader of a table of vectors is not waited for, nor does it keep people from asking', async () => {
    const { db } = fixture;
    const { id, fromSpaceId } = await switched('table');
    await control.complete(db, 'doc');
    const reader = new pg.Client({ connectionString: fixture.url, application_name: 'dump' });
    await reader.connect();
    await reader.query(`BEGIN; LOCK TABLE freshvec.vector_${fromSpaceId} IN ACCESS SHARE MODE`);
    const working = controlMigration(deps(db), id, stop.signal);
    const looksAgain = async () => {
      const [row] = await db.query<{ asked: boolean }>(
        `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE freshvec.vector_${fromSpaceId} IN ACCESS EXCLUSIVE%'
           AND pid <> pg_backend_pid() AND datname = current_database()) AS asked`,
      );
      return row?.asked === true;
    };
    await eventually(looksAgain, { what: 'a try to drop the table' });
    await db.query(`SELECT set_config('lock_timeout', '5s', false)`);
    await control.pauseMigration(db, 'doc');
    await working;
    await control.resumeMigration(db, 'doc');
    await reader.end();
    await workUntil(fixture, id, ['done']);
    expect(await db.query(`SELECT to_regclass('freshvec.vector_${fromSpaceId}') AS there`)).toEqual([{ there: null }]);
  });

  /** What is on record of the space for workers to do. */
  const workOf = (spaceId: number) =>
    fixture.db.query(
      `SELECT 'range' AS what FROM freshvec.range WHERE space_id = $1 UNION ALL SELECT 'change' FROM freshvec.change_key WHERE space_id = $1
       UNION ALL SELECT 'lease' FROM freshvec.lease WHERE space_id = $1`,
      [spaceId],
    );

  test("a worker's long visit of pages is not waited for by an abort, and leaves nothing", async () => {
    const { db } = fixture;
    // A row a page; a content that takes as long as the test wants.
    await db.exec(`DROP TABLE doc; CREATE TABLE doc (id int PRIMARY KEY, body text) WITH (fillfactor = 10);
      INSERT INTO doc SELECT i, repeat('text ', 150) || i FROM generate_series(1, 300) i;
      CREATE TABLE slow (it bool);
      CREATE FUNCTION slowly(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN IF EXISTS (SELECT FROM public.slow) THEN PERFORM pg_sleep(1); END IF; RETURN t; END $$`);
    await fixture.add({ table: 'doc', content: { sql: 'slowly(body)' }, model: 'fake/a@8', index: 'none' });
    await fixture.work();
    const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await stepUntil(fixture, id, 'backfilling');
    await db.query('DELETE FROM freshvec.range WHERE space_id = $1 AND to_page <= 300', [toSpaceId]);
    await db.exec('INSERT INTO slow VALUES (true)');
    const visiting = fixture.work();
    const isHeld = async () =>
      (await db.query('SELECT FROM freshvec.range WHERE space_id = $1 FOR UPDATE SKIP LOCKED', [toSpaceId])).length ===
      0;
    await eventually(isHeld, { what: 'a visit' });
    await control.abort(db, 'doc');
    const working = controlMigration(deps(db), id, stop.signal);
    await eventually(async () => (await getMigration(db, id))?.state === 'aborted', {
      timeoutMs: 20_000,
      what: 'the abort',
    });
    await working;
    await db.exec('TRUNCATE slow');
    await visiting;
    expect(await workOf(toSpaceId)).toEqual([]);
    await sweep(db);
    await fixture.work();
    expect(await workOf(toSpaceId)).toEqual([]);
  }, 60_000);

  test.each(['column', 'table'] as const)(
    'what a visit under way hands over late goes too: store %s',
    async (store) => {
      const { db } = fixture;
      const { id, fromSpaceId } = await switched(store);
      await control.complete(db, 'doc');
      let late = 0;
      const query: Database['query'] = async (sql, ...with_) => {
        const rows = await db.query(sql, ...with_);
        // The last of what is deleted beforehand.
        if (/DELETE FROM freshvec.lease/.test(sql) && (await getMigration(db, id))?.state === 'contracting') {
          late += 1;
          await db.exec(`INSERT INTO freshvec.change (space_id, lane, key) VALUES (${fromSpaceId}, 1, '7');
            INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
              VALUES (${fromSpaceId}, 'sweep', 'doc'::regclass, 0, 0, 1)`);
        }
        return rows as never;
      };
      await controlMigration(deps(instead(db, { query })), id, stop.signal);
      expect(late).toBeGreaterThan(0);
      expect(await getMigration(db, id)).toMatchObject({ state: 'done' });
      expect(await workOf(fromSpaceId)).toEqual([]);
    },
  );

  test('a build that outlived its controller is ended by an abort', async () => {
    const { db } = fixture;
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
    await fixture.work();
    const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' });
    await stepUntil(fixture, id, 'indexing');
    const [old, orphan] = [1, 2].map(() => new pg.Client({ connectionString: fixture.url }));
    if (!old || !orphan) throw new Error('no clients');
    await Promise.all([old.connect(), orphan.connect()]);
    try {
      // CREATE INDEX CONCURRENTLY waits for this snapshot.
      await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      await old.query('SELECT count(*) FROM doc');
      const name = indexName({ id: toSpaceId });
      const build = orphan.query(`CREATE INDEX CONCURRENTLY ${name} ON doc USING hnsw (embedding_2 vector_cosine_ops)`);
      const outcome = build.then(
        () => 'built',
        (error: unknown) => String(error),
      );
      const building = async () =>
        (await db.query('SELECT FROM pg_stat_progress_create_index WHERE datname = current_database()')).length > 0;
      await eventually(building, { what: 'the build' });
      await sleep(50);
      await control.abort(db, 'doc');
      const working = controlMigration(deps(db), id, stop.signal);
      expect(await outcome).toMatch(/canceling statement due to user request/);
      await old.query('COMMIT');
      await eventually(async () => (await getMigration(db, id))?.state === 'aborted', { what: 'the abort' });
      stop.abort();
      await working;
    } finally {
      await Promise.all([old.end(), orphan.end()]);
    }
    expect(await columns()).toEqual([
      'id',
      'body',
      'embedding_stale',
      'embedding',
      'embedding_model',
      'embedding_hash',
    ]);
    expect(await migrationStatus(db, 'doc')).toMatchObject({ state: 'aborted', done: 0 });
  });
});
