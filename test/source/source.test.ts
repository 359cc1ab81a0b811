import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { getSource, listSources } from '../../src/catalog/source.js';
import { liveSpace } from '../../src/catalog/space.js';
import { PAST_LAST_PAGE } from '../../src/claim/range.js';
import type { Database } from '../../src/db/database.js';
import {
  alterSource,
  applySource,
  insertLoadRanges,
  planAlter,
  planSource,
  planSql,
  removeSource,
  type SourceDefinition,
  uninstallSources,
} from '../../src/source/index.js';
import { addSource, ENGINES, MODEL, type Subject, takeChanges, takeKeys } from '../capture/support.js';
import { snapshot } from './snapshot.js';

const definition: SourceDefinition = {
  table: 'memory',
  content: { columns: ['title', 'body'] },
  where: `kind = 'note'`,
  tenant: 'team',
  model: MODEL.spec,
};

describe.for(ENGINES)('sources on %s', ([, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
  });
  afterAll(() => subject.close());
  beforeEach(async () => {
    await uninstallSources(db);
    await db.query('DROP TABLE IF EXISTS memory CASCADE');
    await db.query('CREATE TABLE memory (id bigint PRIMARY KEY, title text, body text, kind text, team text)');
    await db.query(
      `INSERT INTO memory SELECT i, 'title ' || i, 'body ' || i, CASE WHEN i % 2 = 0 THEN 'note' ELSE 'task' END FROM generate_series(1, 100) i`,
    );
    await takeChanges(db);
  });

  const ranges = (spaceId: number) =>
    db.query<{ purpose: string; from: number; to: number; current: boolean }>(
      `SELECT purpose, from_page AS from, to_page AS to, filenode = pg_relation_filenode(relation_oid) AS current
       FROM freshvec.range WHERE space_id = $1 ORDER BY id`,
      [spaceId],
    );

  test('a plan changes nothing and says everything', async () => {
    const before = await snapshot(db);
    const plan = await planSource(db, definition, { ...MODEL, spec: 'openai/x@8', pricePerMillionTokens: 1000 });
    expect(await snapshot(db)).toEqual(before);
    expect(plan).toMatchObject({
      already: false,
      rows: 50,
      rowsEstimated: false,
      proposedStore: 'column',
      source: { name: 'memory', baseColumns: ['title', 'body', 'kind'], tenantColumn: 'team', filter: `kind = 'note'` },
      space: {
        column: 'embedding',
        type: 'vector',
        metric: 'cosine',
        index: { kind: 'hnsw', m: 16, efConstruction: 64 },
      },
    });
    // 'title 24\n\nbody 24': 17 characters, 5 tokens by the test's count.
    expect(plan.tokens).toBeGreaterThan(150);
    expect(plan.tokens).toBeLessThan(300);
    expect(plan.cost).toBeCloseTo(plan.tokens / 1000);
    expect(plan.statements.map(({ lock }) => lock)).toContain('ACCESS EXCLUSIVE on public.memory, for milliseconds');
    expect((await planSource(db, definition, MODEL)).cost).toBe(0);
    expect((await planSource(db, definition, { ...MODEL, spec: 'openai/x@8' })).cost).toBeUndefined();
  });

  test('what was planned is what is there, and it is found done', async () => {
    const plan = await planSource(db, definition, MODEL);
    await applySource(db, plan);
    expect(await getSource(db, 'memory')).toEqual({ ...plan.source, version: expect.any(String) });
    expect(await liveSpace(db, plan.source.id)).toEqual({ epoch: 1, space: plan.space });
    expect(await ranges(plan.space.id)).toEqual([
      { purpose: 'load', from: 0, to: 1, current: true },
      { purpose: 'load', from: 0, to: PAST_LAST_PAGE, current: true },
    ]);
    const again = await planSource(db, definition, MODEL);
    expect(again).toMatchObject({ already: true, statements: [], space: plan.space, rows: 50 });
    await applySource(db, again);
    await expect(applySource(db, plan)).rejects.toMatchObject({ code: 'source_exists' });
    const types = await db.query(
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attstorage AS storage, attnotnull AS "notNull"
       FROM pg_attribute WHERE attrelid = 'memory'::regclass AND attname LIKE 'embedding%' ORDER BY attnum`,
    );
    expect(types).toEqual([
      { name: 'embedding_stale', type: 'boolean', storage: 'p', notNull: true },
      { name: 'embedding', type: 'vector(8)', storage: 'e', notNull: false },
      { name: 'embedding_model', type: 'text', storage: 'x', notNull: false },
      { name: 'embedding_hash', type: 'uuid', storage: 'p', notNull: false },
    ]);
  });

  test('the file of a plan, run by somebody else, comes to the same', async () => {
    const plan = await planSource(db, { ...definition, name: `it's "x"; --` }, MODEL);
    const file = planSql(plan);
    for (const { sql } of plan.statements) expect(file).toContain(sql);
    await db.exec(file);
    const done = await planSource(db, { ...definition, name: `it's "x"; --` }, MODEL);
    expect(done).toMatchObject({ already: true, source: plan.source, space: plan.space });
    const byFile = await snapshot(db);
    await removeSource(db, plan.source.name, { dropVectors: true });
    await applySource(db, plan);
    expect(await snapshot(db)).toEqual(byFile);
  });

  test.for(['column', 'table'] as const)('remove leaves the table as it was (%s)', async (store) => {
    const before = await snapshot(db);
    await addSource(db, { ...definition, store });
    await db.query(`INSERT INTO memory VALUES (1000, 'x')`);
    expect(await snapshot(db)).not.toEqual(before);
    await removeSource(db, 'memory', { dropVectors: true });
    expect(await snapshot(db)).toEqual(before);
    expect(await listSources(db)).toEqual([]);
  });

  test('remove keeps the vectors unless told otherwise, and a source added again takes them up', async () => {
    await addSource(db, definition);
    await db.query(`UPDATE memory SET embedding = '[1,2,3,4,5,6,7,8]', embedding_hash = md5(title)::uuid WHERE id = 2`);
    await removeSource(db, 'memory', { dropVectors: false });
    const [triggers] = await db.query(`SELECT count(*)::int AS n FROM pg_trigger WHERE tgname LIKE '%freshvec%'`);
    expect(triggers).toEqual({ n: 0 });
    await addSource(db, definition);
    expect(await db.query('SELECT id FROM memory WHERE embedding IS NOT NULL')).toEqual([{ id: 2 }]);
  });

  test('a publication FOR ALL TABLES takes in our own: said, with what to do', async () => {
    await db.exec('CREATE PUBLICATION "every thing" FOR ALL TABLES');
    try {
      const { notes } = await planSource(db, { ...definition, model: MODEL.spec, store: 'table' }, MODEL);
      expect(notes.join('\n')).toMatch(
        /CREATE PUBLICATION app FOR TABLES IN SCHEMA "public"; .*DROP PUBLICATION "every thing";/,
      );
    } finally {
      await db.exec('DROP PUBLICATION "every thing"');
    }
  });

  test('remove of a source whose table is gone, or has another name now', async () => {
    await addSource(db, definition);
    await db.query('ALTER TABLE memory RENAME TO renamed');
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, embedding text)');
    await removeSource(db, 'memory', { dropVectors: true });
    const columns = await db.query(
      `SELECT attrelid::regclass::text AS t FROM pg_attribute WHERE attname = 'embedding' AND attrelid::regclass::text IN ('memory', 'renamed')`,
    );
    expect(columns).toEqual([{ t: 'memory' }]);
    await db.query('DROP TABLE memory');
    await db.query('ALTER TABLE renamed RENAME TO memory');

    await addSource(db, definition);
    await db.query('DROP TABLE memory');
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, embedding text)');
    await removeSource(db, 'memory', { dropVectors: true });
    expect(await db.query('SELECT embedding FROM memory')).toEqual([]);
  });

  test('uninstall takes all of them away', async () => {
    const before = await snapshot(db);
    await addSource(db, definition);
    await addSource(db, { ...definition, name: 'two', column: 'second' });
    await addSource(db, { ...definition, name: 'three', store: 'table' });
    expect(await uninstallSources(db)).toEqual(['memory', 'three', 'two']);
    expect(await snapshot(db)).toEqual(before);
  });

  describe('alter', () => {
    test('of content: edits of the new columns count from now on, and every row is looked at once', async () => {
      const { source, space } = await addSource(db, definition);
      await db.query('DELETE FROM freshvec.range');
      const plan = await alterSource(db, 'memory', { content: { sql: `title || ': ' || coalesce(team, '')` } });
      expect(await getSource(db, 'memory')).toEqual({
        ...source,
        version: expect.any(String),
        content: { sql: `title || ': ' || coalesce(team, '')` },
        baseColumns: ['title', 'kind', 'team'],
      });
      expect(plan.source.baseColumns).toEqual(['title', 'kind', 'team']);
      expect(await ranges(space.id)).toEqual([
        { purpose: 'sweep', from: 0, to: expect.any(Number), current: true },
        { purpose: 'sweep', from: 0, to: PAST_LAST_PAGE, current: true },
      ]);
      await db.query('UPDATE memory SET embedding_stale = false');
      await takeChanges(db);
      await db.query(`UPDATE memory SET body = 'new' WHERE id = 2`);
      expect(await takeKeys(db)).toEqual([]);
      await db.query(`UPDATE memory SET team = 'new' WHERE id = 2`);
      expect(await takeKeys(db)).toEqual(['2']);
      const enabled = await db.query(
        `SELECT tgname AS name, tgenabled AS enabled FROM pg_trigger WHERE tgname ~ 'freshvec_(flag|replica)' ORDER BY 1`,
      );
      expect(enabled).toMatchObject([{ enabled: 'R' }, { enabled: 'A' }]);
    });

    test('of the filter, in a table of its own', async () => {
      const { space } = await addSource(db, { ...definition, store: 'table' });
      await db.query('DELETE FROM freshvec.range');
      await alterSource(db, 'memory', { where: `team IS NULL` });
      expect((await ranges(space.id)).map(({ purpose }) => purpose)).toEqual(['sweep', 'sweep']);
      await db.query(`UPDATE memory SET kind = 'other' WHERE id = 2`);
      expect(await takeKeys(db)).toEqual([]);
      await db.query(`UPDATE memory SET team = 'a' WHERE id = 2`);
      expect(await takeKeys(db)).toEqual(['2']);
      await alterSource(db, 'memory', { where: null });
      expect((await getSource(db, 'memory')).filter).toBeUndefined();
    });

    test('to what it is already does nothing', async () => {
      await addSource(db, definition);
      expect((await planAlter(db, 'memory', { content: definition.content })).statements).toEqual([]);
      expect((await planAlter(db, 'memory', {})).statements).toEqual([]);
    });

    test('to what cannot work is refused', async () => {
      await addSource(db, definition);
      const before = await snapshot(db);
      const alter = (changes: Parameters<typeof alterSource>[2]) => alterSource(db, 'memory', changes);
      await expect(alter({ content: { columns: ['titel'] } })).rejects.toThrow(/Did you mean "title"/);
      await expect(alter({ where: 'embedding_stale' })).rejects.toThrow(/which freshvec writes/);
      await expect(alter({ where: 'no such' })).rejects.toThrow(/not valid SQL/);
      await expect(alterSource(db, 'nothing', {})).rejects.toMatchObject({ code: 'source_unknown' });
      expect(await snapshot(db)).toEqual(before);
    });
  });

  test('an UPDATE trigger of the app proposes the other store, and a word about it', async () => {
    await db.query(
      `CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`,
    );
    await db.query('CREATE TRIGGER touched BEFORE UPDATE ON memory FOR EACH ROW EXECUTE FUNCTION touch()');
    expect(await planSource(db, definition, MODEL)).toMatchObject({
      proposedStore: 'table',
      space: { store: 'table' },
    });
    const column = await planSource(db, { ...definition, store: 'column' }, MODEL);
    expect(column.space.store).toBe('column');
    expect(column.notes.join('\n')).toMatch(/own triggers \(touched\)/);
    await db.query('ALTER TABLE memory DISABLE TRIGGER touched');
    expect(await planSource(db, definition, MODEL)).toMatchObject({ proposedStore: 'column' });
  });

  test('large tables are sampled, and their ranges grow', async () => {
    await db.query(`INSERT INTO memory SELECT i, 'some title', NULL, 'note' FROM generate_series(1001, 120000) i`);
    const plan = await addSource(db, definition);
    expect(plan.rowsEstimated).toBe(true);
    expect(plan.rows).toBeGreaterThan(100_000);
    expect(plan.rows).toBeLessThan(140_000);
    expect(plan.tokens / plan.rows).toBeCloseTo(3, 0);
    const found = await ranges(plan.space.id);
    expect(found.pop()).toMatchObject({ from: 0, to: PAST_LAST_PAGE });
    const [size] = await db.query<{ pages: number }>(
      `SELECT pg_relation_size('memory') / current_setting('block_size')::int AS pages`,
    );
    expect(found[0]).toMatchObject({ from: 0, to: 64 });
    expect(found.at(-1)?.to).toBe(size?.pages);
    for (const [i, range] of found.entries()) expect(range.from).toBe(i * 64);
    await db.query('DELETE FROM freshvec.range');
    await db.tx((tx) => insertLoadRanges(tx, plan.source, plan.space.id, 'sweep'));
    expect((await ranges(plan.space.id)).length).toBe(found.length);
  });
});
