import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { planSource, removeSource } from '../../src/source/index.js';
import { addSource, ENGINES, MODEL, type Subject } from '../capture/support.js';
import { openFixture } from '../support/fixture.js';

describe.for(ENGINES)('on %s', ([, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
    await db.query('CREATE TABLE memory (id bigint PRIMARY KEY, title text)');
    await db.query(`INSERT INTO memory VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
  });
  afterAll(() => subject.close());
  beforeEach(async () => {
    for (const { name } of await db.query<{ name: string }>('SELECT name FROM freshvec.source')) {
      await removeSource(db, name, { dropVectors: true });
    }
  });

  describe('a table of vectors that remove leaves', () => {
    const inTable = { table: 'memory', content: { columns: ['title'] }, store: 'table' as const };
    const vectors = (space: { id: number }) =>
      db.query<{ id: number }>(`SELECT id FROM freshvec.vector_${space.id} ORDER BY id`);
    const kept = () => db.query('SELECT FROM freshvec.kept_space');
    afterEach(async () => {
      const left = await db.query<{ id: number }>('DELETE FROM freshvec.kept_space RETURNING space_id AS id');
      for (const { id } of left) await db.exec(`DROP TABLE IF EXISTS freshvec.vector_${id}`);
    });

    /** A source with the vectors of rows 1 and 2, removed. */
    async function removed() {
      const { space } = await addSource(db, inTable);
      await db.query(
        `INSERT INTO freshvec.vector_${space.id} (id, hash, model, embedding)
         SELECT id, md5(title)::uuid, $1, '[1,2,3,4,5,6,7,8]' FROM memory WHERE id IN (1, 2)`,
        [space.fingerprint],
      );
      const { notes } = await removeSource(db, 'memory', { dropVectors: false });
      return { space, notes };
    }

    test('says so, is hidden, and is taken up by the same source', async () => {
      const { space, notes } = await removed();
      expect(notes).toEqual([expect.stringContaining(`DROP TABLE IF EXISTS "freshvec"."vector_${space.id}";`)]);
      const policies = `SELECT polname AS name FROM pg_policy WHERE polrelid = 'freshvec.vector_${space.id}'::regclass`;
      expect(await db.query(policies)).toEqual([{ name: 'freshvec_write' }]);
      const again = await addSource(db, { ...inTable, where: 'id > 0', name: 'again' });
      expect(again.space.id).toBe(space.id);
      expect(again.notes.join()).toMatch(/taken up again/);
      expect((await vectors(space)).map(({ id }) => id)).toEqual([1, 2]);
      expect(await kept()).toEqual([]);
      expect(await db.query(policies)).toHaveLength(2);
      // What went meanwhile is looked for.
      expect(await db.query(`SELECT space_id FROM freshvec.range WHERE purpose = 'prune'`)).toEqual([
        { space_id: space.id },
      ]);
      await removeSource(db, 'again', { dropVectors: true });
      expect(await kept()).toEqual([]);
    });

    test('is left alone by another model, another kind of vector, another table', async () => {
      const { space } = await removed();
      await db.query('CREATE TABLE other (id bigint PRIMARY KEY, title text)');
      const others = [
        await planSource(db, { ...inTable, model: MODEL.spec }, { ...MODEL, fingerprint: 'fake/test@8#other' }),
        await planSource(db, { ...inTable, model: MODEL.spec, type: 'halfvec' }, MODEL),
        await planSource(db, { ...inTable, model: MODEL.spec, table: 'other' }, MODEL),
      ];
      for (const plan of others) expect(plan.space.id).not.toBe(space.id);
      await db.query('DROP TABLE other');
    });

    test('that somebody dropped is forgotten', async () => {
      const { space } = await removed();
      await db.exec(`DROP TABLE freshvec.vector_${space.id}`);
      const plan = await addSource(db, inTable);
      expect(plan.space.id).not.toBe(space.id);
      await removeSource(db, 'memory', { dropVectors: true });
      await removed();
      expect(await kept()).toHaveLength(1);
    });
  });
});

test.each(['column', 'table'] as const)(
  'a source that is removed and added again pays only for what changed meanwhile (%s)',
  async (store) => {
    const fixture = await openFixture();
    onTestFinished(() => fixture.close());
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 20) i`);
    const definition = {
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/p@8',
      store,
      index: 'none',
    } as const;
    await fixture.add(definition);
    expect((await fixture.work()).written).toBe(20);
    await removeSource(db, 'doc', { dropVectors: false });
    await db.exec(
      `UPDATE doc SET body = 'new' WHERE id <= 3; DELETE FROM doc WHERE id > 15; INSERT INTO doc VALUES (30, 'x')`,
    );
    const again = await fixture.add(definition);
    expect((await fixture.work()).written).toBe(4);
    expect(await db.tx((tx) => again.store.count(tx))).toMatchObject({ rows: 16, fresh: 16, vectors: 16 });
  },
);
