import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { liveSpace } from '../../src/catalog/space.js';
import {
  alterSource,
  planSource,
  removeSource,
  type SourceDefinition,
  verifyAdoption,
} from '../../src/source/index.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { eventually } from '../support/eventually.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { fillByHand, readRows, spent, textsAsked, whose } from './adopted.js';

const MODEL = 'fake/m@8';
const definition: SourceDefinition = { table: 'doc', content: { columns: ['body'] }, model: MODEL, adopt: true };

let fixture: Fixture;
afterEach(async () => {
  vi.restoreAllMocks();
  await fixture.close();
});

const model = () => fixture.models.get(MODEL);
const plan = async (over: Partial<SourceDefinition> = {}) =>
  planSource(fixture.db, { ...definition, ...over }, await model());
const adoption = async (sourceId: number) => (await liveSpace(fixture.db, sourceId))?.space.adoption;

async function makeDocs(rows: number, type = 'vector(8)'): Promise<void> {
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, hits int DEFAULT 0, embedding ${type});
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, ${rows}) i`);
}

describe.each<Engine>(['postgres', 'pglite'])('source add --adopt on %s', (engine) => {
  beforeEach(async () => {
    fixture = await openFixture(engine);
  });

  it('takes vectors over unpaid, embeds rows without one, and takes those of rows without text away', async () => {
    await makeDocs(300);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding', 'id <= 250');
    await db.exec(`UPDATE doc SET body = '  ' WHERE id <= 5`);
    const planned = await plan();
    expect(planned).toMatchObject({ adopts: 245, rows: 50, verification: { rows: 20, cost: 0 } });
    expect(planned.notes.join('\n')).toMatch(/5 vectors are set to NULL/);
    const { source } = await fixture.add(definition);
    const asked = textsAsked(await model());
    const report = await fixture.work();
    expect(asked.texts()).toHaveLength(50);
    expect(report.written).toBe(50);
    for (const row of await readRows(db, 'embedding')) {
      const expected = row.id <= 5 ? 'none' : row.id <= 250 ? 'theirs' : 'embedded';
      expect([row.id, await whose(row, await model()), row.hashed]).toEqual([row.id, expected, row.id > 5]);
    }
    const [flags] = await db.query('SELECT count(*) FILTER (WHERE embedding_stale)::int AS stale FROM doc');
    expect(flags).toEqual({ stale: 0 });
    expect(await adoption(source.id)).toBe('done');
    expect(await plan()).toMatchObject({ already: true });
  });

  it('asks no provider and spends nothing where every row has its vector', async () => {
    await makeDocs(200);
    await fillByHand(fixture.db, await model(), 'embedding');
    await fixture.add(definition);
    const asked = textsAsked(await model());
    expect(await fixture.work()).toMatchObject({ written: 0, tokens: 0, unpaid: 200 });
    expect(asked.texts()).toEqual([]);
    expect(await spent(fixture.db)).toBe(0);
    // From here on it is a source like any other.
    await fixture.db.exec(`UPDATE doc SET body = 'text edited' WHERE id = 3`);
    await fixture.work();
    expect(asked.texts()).toEqual(['text edited']);
  });

  it('an edit before the first worker comes is embedded, also one that changes nothing else on the row', async () => {
    await makeDocs(50);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await fixture.add(definition);
    await db.exec(`UPDATE doc SET body = 'text edited' WHERE id = 7; UPDATE doc SET hits = 1 WHERE id = 8`);
    await fixture.work();
    const rows = await readRows(db, 'embedding');
    const of = async (id: number) =>
      whose(rows[id - 1] ?? { id, body: '', model: null, hashed: false, vector: null }, await model());
    expect([await of(7), await of(8), await of(9)]).toEqual(['embedded', 'theirs', 'theirs']);
    expect(rows.every(({ hashed }) => hashed)).toBe(true);
  });

  it('an edit that is told of in a pack is embedded, whichever comes first', async () => {
    await makeDocs(1300);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    const { source, store } = await fixture.add(definition);
    await db.exec(`UPDATE doc SET body = 'text edited ' || id WHERE id <= 1200`);
    expect(await db.query('SELECT sum(cardinality(keys))::int AS keys FROM freshvec.change_pack')).toEqual([
      { keys: 1200 },
    ]);
    const pages = { relationOid: source.relation.oid, fromPage: 0, toPage: 1000 };
    expect(await db.tx((tx) => store.adopt(tx, pages, 2000))).toMatchObject({ adopted: 100, held: 0 });
    const asked = textsAsked(await model());
    await fixture.work();
    expect(asked.texts()).toHaveLength(1200);
    for (const row of await readRows(db, 'embedding')) {
      expect([row.id, await whose(row, await model())]).toEqual([row.id, row.id <= 1200 ? 'embedded' : 'theirs']);
    }
  });

  it('takes nothing over once its columns have other names', async () => {
    await makeDocs(10);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    const { source, space, store } = await fixture.add(definition);
    await db.query(`UPDATE freshvec.space SET column_name = 'embedding_2' WHERE id = $1`, [space.id]);
    const pages = { relationOid: source.relation.oid, fromPage: 0, toPage: 100 };
    expect(await db.tx((tx) => store.adopt(tx, pages, 100))).toMatchObject({ adopted: 0 });
    await db.query(`UPDATE freshvec.space SET column_name = 'embedding' WHERE id = $1`, [space.id]);
    expect(await db.tx((tx) => store.adopt(tx, pages, 100))).toMatchObject({ adopted: 10 });
  });

  it('a filter alone that is altered leaves the vectors to be taken over', async () => {
    await makeDocs(40);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    const { source } = await fixture.add(definition);
    await alterSource(db, 'doc', { content: { columns: ['body'] }, where: 'id <= 30' });
    const asked = textsAsked(await model());
    await fixture.work();
    expect(asked.texts()).toEqual([]);
    expect(await adoption(source.id)).toBe('done');
    expect(await db.query('SELECT count(embedding)::int AS n FROM doc')).toEqual([{ n: 30 }]);
  });

  it('vectors that somebody writes by hand once adoption is over are embedded anew, not taken over', async () => {
    await makeDocs(20);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    const { source } = await fixture.add(definition);
    await fixture.work();
    expect(await adoption(source.id)).toBe('done');
    await db.exec(
      "UPDATE doc SET embedding_hash = NULL, embedding_model = NULL WHERE id = 4; SELECT freshvec.enqueue('doc', '4')",
    );
    await fixture.work();
    const row = (await readRows(db, 'embedding'))[3];
    expect(row && (await whose(row, await model()))).toBe('embedded');
  });

  it('takes halfvec as it is, and a column without dimensions where no index is wanted', async () => {
    await makeDocs(30, 'halfvec(8)');
    await fillByHand(fixture.db, await model(), 'embedding');
    expect((await plan()).space).toMatchObject({ type: 'halfvec', adoption: 'open' });
    await fixture.db.exec('ALTER TABLE doc ALTER COLUMN embedding TYPE vector');
    await fixture.add({ ...definition, index: 'none' });
    await fixture.work();
    for (const row of await readRows(fixture.db, 'embedding')) expect(await whose(row, await model())).toBe('theirs');
  });

  it('refuses what it cannot take over, and says what to do', async () => {
    await makeDocs(10, 'vector');
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await expect(plan()).rejects.toThrow(
      /without dimensions.*ALTER TABLE "public"."doc" ALTER COLUMN "embedding" TYPE vector\(8\).*--index none/,
    );
    await db.exec(`UPDATE doc SET embedding = '[1,2,3]' WHERE id < 3`);
    await expect(plan({ index: 'none' })).rejects.toThrow(
      /other dimensions than the 8.*2 of 3\. UPDATE .*vector_dims\("embedding"\) <> 8, then ALTER/,
    );
    await expect(plan({ column: 'embeding' })).rejects.toThrow(/no column "embeding" to adopt.*"embedding"/);
    await expect(plan({ column: 'body' })).rejects.toThrow(/"body" is text, and vectors of fake\/m@8 are vector\(8\)/);
    await expect(plan({ store: 'table' })).rejects.toThrow(/only a column of the table can be adopted/);
    await db.exec(`UPDATE doc SET embedding = '[1,2,3]'; ALTER TABLE doc ALTER COLUMN embedding TYPE vector(3)`);
    await expect(plan()).rejects.toThrow(/"embedding" is vector\(3\).*name the model that made them/);
    await db.exec("ALTER TABLE doc ADD COLUMN v vector(8) NOT NULL DEFAULT '[1,1,1,1,1,1,1,1]'");
    await expect(plan({ column: 'v' })).rejects.toThrow(/"v" is NOT NULL.*DROP NOT NULL/);
    await expect(plan({ column: 'v', adopt: false })).rejects.toThrow(/did not make.*--adopt/);
  });

  it('compares a sample with what the model gives, and refuses vectors of another model or text', async () => {
    await makeDocs(100);
    const { db } = fixture;
    const right = await model();
    await fillByHand(db, right, 'embedding');
    const planned = await plan();
    const embed = async (texts: readonly string[]) => (await right.embed(texts, { purpose: 'document' })).vectors;
    expect(await verifyAdoption(db, planned, embed)).toMatchObject({ rows: 20, alike: 20 });
    const other = await fixture.models.get('fake/other@8');
    await expect(
      verifyAdoption(db, planned, async (texts) => (await other.embed(texts, { purpose: 'document' })).vectors),
    ).rejects.toThrow(/not made by this model from this content: of 20 rows, \d+ have .*median -?0\.\d+.*--no-verify/);
    await expect(verifyAdoption(db, planned, async (texts) => texts.map(() => undefined))).rejects.toThrow(
      /takes none/,
    );
    await db.exec(`UPDATE doc SET body = 'text edited ' || id WHERE id % 3 = 0; DELETE FROM doc WHERE id > 21`);
    await expect(verifyAdoption(db, planned, embed)).rejects.toThrow(
      /some vectors.*not made from the text.*Set those to NULL/,
    );
    await db.exec('UPDATE doc SET embedding = NULL');
    expect(await verifyAdoption(db, planned, embed)).toBeUndefined();
  });

  it('partitions are taken over as well', async () => {
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, embedding vector(8)) PARTITION BY RANGE (id);
      CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (0) TO (60);
      CREATE TABLE doc_2 PARTITION OF doc FOR VALUES FROM (60) TO (200);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 120) i;
      CREATE INDEX doc_vectors ON doc USING hnsw (embedding vector_cosine_ops)`);
    await fillByHand(db, await model(), 'embedding', 'id <= 100');
    expect((await plan()).notes.join('\n')).toMatch(/index doc_vectors serves as it is/);
    const { source, space } = await fixture.add(definition);
    await db.exec(`UPDATE doc SET body = 'text edited', id = 150 WHERE id = 10`);
    const asked = textsAsked(await model());
    await fixture.work();
    expect(asked.texts().sort()).toEqual(
      ['text edited', ...Array.from({ length: 20 }, (_, i) => `text number ${101 + i}`)].sort(),
    );
    expect((await readRows(db, 'embedding')).every(({ hashed }) => hashed)).toBe(true);
    expect(await ensureIndex(db, source, space)).toBe('valid');
  });

  it('a partition that comes later gets one index, not a second of our own', async () => {
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, embedding vector(8)) PARTITION BY RANGE (id);
      CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (0) TO (60);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 20) i`);
    await fillByHand(db, await model(), 'embedding');
    // Of one partition alone it serves nobody who searches them all.
    await db.exec('CREATE INDEX theirs ON doc_1 USING hnsw (embedding vector_cosine_ops)');
    const { source, space } = await fixture.add({ ...definition, index: 'hnsw' });
    expect(await ensureIndex(db, source, space)).toBe('built');
    await db.exec('CREATE TABLE doc_2 PARTITION OF doc FOR VALUES FROM (60) TO (200)');
    expect(await ensureIndex(db, source, space)).toBe('valid');
    const valid = await db.query(
      `SELECT i.indrelid::regclass::text AS "table", i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
       JOIN pg_am am ON am.oid = c.relam WHERE am.amname = 'hnsw' AND c.relname <> 'theirs' ORDER BY 1`,
    );
    expect(valid).toEqual(['doc', 'doc_1', 'doc_2'].map((table) => ({ table, valid: true })));
  });

  it('says which index serves, and builds a second one only where none does', async () => {
    await makeDocs(20);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await db.exec('CREATE INDEX theirs ON doc USING hnsw (embedding vector_l2_ops)');
    expect((await plan({ index: 'hnsw' })).notes.join('\n')).toMatch(
      /index theirs \(hnsw, vector_l2_ops\) does not serve: a second index is built, hnsw with vector_cosine_ops/,
    );
    expect((await plan({ metric: 'l2' })).notes.join('\n')).toMatch(/index theirs serves as it is: no second one/);
    const { source, space } = await fixture.add({ ...definition, metric: 'l2' });
    expect(await ensureIndex(db, source, space)).toBe('valid');
    const indexes = await db.query(
      `SELECT indexname FROM pg_indexes WHERE tablename = 'doc' AND indexdef LIKE '%hnsw%'`,
    );
    expect(indexes).toEqual([{ indexname: 'theirs' }]);
  });

  it('once the content is altered, no vector of the content before is taken over', async () => {
    await makeDocs(40);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    const { source } = await fixture.add(definition);
    await alterSource(db, 'doc', { content: { sql: `'text more: ' || body` } });
    expect(await adoption(source.id)).toBe('done');
    const asked = textsAsked(await model());
    await fixture.work();
    expect(asked.texts()).toHaveLength(40);
  });

  it('a source that is removed with its vectors leaves a column that it adopted', async () => {
    await makeDocs(10);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await fixture.add(definition);
    await fixture.work();
    await removeSource(db, 'doc', { dropVectors: true });
    const columns = await db.query(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    );
    expect(columns.map(({ name }) => name)).toEqual(['id', 'body', 'hits', 'embedding']);
    expect(await db.query('SELECT count(embedding)::int AS n FROM doc')).toEqual([{ n: 10 }]);
  });

  it('a source that is removed without its vectors does not advise to drop a column that it adopted', async () => {
    await makeDocs(10);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await fixture.add(definition);
    const [note] = (await removeSource(db, 'doc', { dropVectors: false })).notes;
    const sql = /ALTER TABLE .*;/.exec(note ?? '')?.[0] ?? '';
    await db.exec(sql);
    const columns = await db.query(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    );
    expect(columns.map(({ name }) => name)).toEqual(['id', 'body', 'hits', 'embedding']);
  });
});

describe('adoption while the app works', () => {
  beforeEach(async () => {
    fixture = await openFixture();
  });

  it('a row that the app holds is waited for, not paid for, and the app waits for nothing', async () => {
    await makeDocs(100);
    const { db } = fixture;
    await fillByHand(db, await model(), 'embedding');
    await fixture.add(definition);
    const asked = textsAsked(await model());
    let working: Promise<unknown> = Promise.resolve();
    await db.session(async (app) => {
      await app.query('BEGIN');
      await app.query('SELECT FROM doc WHERE id IN (5, 6) FOR UPDATE');
      working = fixture.work();
      await eventually(async () => {
        const left = await db.query('SELECT 1 FROM doc WHERE embedding_hash IS NULL');
        return left.length === 2;
      });
      await app.query(`SET LOCAL lock_timeout = '2s'`);
      await app.query(`UPDATE doc SET hits = 1 WHERE id = 5`);
      await app.query(`UPDATE doc SET body = 'text edited' WHERE id IN (6, 7)`);
      await app.query('COMMIT');
    });
    await working;
    expect(asked.texts().sort()).toEqual(['text edited']);
    expect((await readRows(db, 'embedding')).every(({ hashed }) => hashed)).toBe(true);
  });

  it('an edit that commits between the look at a row and its lock is not taken for the text of the vector', async () => {
    const { db } = fixture;
    await makeDocs(10);
    // The look stops at the last row for as long as somebody holds the gate.
    await db.exec(`CREATE FUNCTION gate(id int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
      BEGIN IF id = 10 THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF; RETURN true; END $$`);
    await fillByHand(db, await model(), 'embedding');
    const { source, store } = await fixture.add({ ...definition, where: 'gate(id)' });
    const pages = { relationOid: source.relation.oid, fromPage: 0, toPage: 100 };
    let adopting: Promise<{ adopted: number; held: number }> | undefined;
    await db.session(async (app) => {
      await app.query('SELECT pg_advisory_lock(4711)');
      adopting = db.tx((tx) => store.adopt(tx, pages, 100));
      await eventually(async () => {
        const waiting = await db.query(
          `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted`,
        );
        return waiting.length === 1;
      });
      await app.query(`UPDATE doc SET body = 'text edited' WHERE id = 3`);
      await app.query(`UPDATE doc SET hits = 1 WHERE id = 4`);
      await app.query('SELECT pg_advisory_unlock(4711)');
    });
    expect(await adopting).toMatchObject({ adopted: 8, held: 2 });
    const stamped = async () =>
      (await db.query<{ id: number }>('SELECT id FROM doc WHERE embedding_hash IS NOT NULL ORDER BY id')).map(
        ({ id }) => id,
      );
    expect(await stamped()).toEqual([1, 2, 5, 6, 7, 8, 9, 10]);
    // The next look sees that 3 has a change, and that 4 has none.
    expect(await db.tx((tx) => store.adopt(tx, pages, 100))).toMatchObject({ adopted: 1, held: 0 });
    expect(await stamped()).not.toContain(3);
    // Nor is it taken over while its change is a lease, or a failure.
    for (const sql of [
      `WITH c AS (DELETE FROM freshvec.change RETURNING space_id, key) INSERT INTO freshvec.lease (space_id, key, expires_at, since)
         SELECT space_id, key, now() + interval '1 hour', now() FROM c`,
      `WITH l AS (DELETE FROM freshvec.lease RETURNING space_id, key) INSERT INTO freshvec.failure (space_id, key, code, message, attempts)
         SELECT space_id, key, 'input_rejected', 'x', 1 FROM l`,
    ]) {
      await db.exec(sql);
      expect(await db.tx((tx) => store.adopt(tx, pages, 100))).toMatchObject({ adopted: 0, held: 0 });
    }
  });

  it('every row ends with the hash of its text, and the vector of its text, the adopted one only where it was never edited', async () => {
    const { db } = fixture;
    await makeDocs(3000);
    await fillByHand(db, await model(), 'embedding', 'id % 10 <> 0');
    const { source } = await fixture.add(definition);
    const edited = new Set<number>();
    let edits = 0;
    const app = async (seed: number) => {
      for (let n = seed; n < seed + 1000 && (edits < 50 || (await adoption(source.id)) === 'open'); n += 1) {
        // Each app has rows of its own.
        const id = seed + 3 * (n % 1000);
        const kind = n % 5;
        if (kind === 0) await db.query('UPDATE doc SET hits = hits + 1 WHERE id = $1', [id]);
        else if (kind === 1) await db.query('UPDATE doc SET hits = 0, id = id WHERE id = $1', [id]);
        else {
          edited.add(id);
          edits += 1;
          if (kind === 2) {
            await db.query(`UPDATE doc SET body = '' WHERE id = $1`, [id]);
            await db.query(`UPDATE doc SET body = 'text back ' || $2::int WHERE id = $1`, [id, n]);
          } else if (kind === 3) {
            await db.tx(async (tx) => {
              await tx.query('DELETE FROM doc WHERE id = $1', [id]);
              await tx.query(
                `INSERT INTO doc (id, body, embedding) VALUES ($1, 'text anew ' || $2::int, '[1,2,3,4,5,6,7,8]')`,
                [id, n],
              );
            });
          } else await db.query(`UPDATE doc SET body = 'text edit ' || $2::int WHERE id = $1`, [id, n]);
        }
      }
    };
    await Promise.all([...[1, 2, 3].map(app), fixture.work()]);
    await fixture.work();
    const rows = await readRows(db, 'embedding');
    expect(rows).toHaveLength(3000);
    expect(await adoption(source.id)).toBe('done');
    const counts = { theirs: 0, embedded: 0, wrong: 0, none: 0 };
    for (const row of rows) {
      const found = await whose(row, await model());
      counts[found] += 1;
      expect([row.id, row.hashed, row.model]).toEqual([row.id, true, (await model()).fingerprint]);
      if (found === 'theirs') expect([row.id, edited.has(row.id)]).toEqual([row.id, false]);
    }
    expect(counts).toMatchObject({ wrong: 0, none: 0 });
    // Rows that nobody edited and that had a vector were not paid for.
    const untouched = rows.filter(({ id }) => id % 10 !== 0 && !edited.has(id));
    expect(counts.theirs).toBe(untouched.length);
    expect(edited.size).toBeGreaterThan(0);
  });
});
