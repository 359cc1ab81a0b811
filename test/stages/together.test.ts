import { beforeEach, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import type { Source } from '../../src/catalog/source.js';
import { getSpace, type Space } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { Drainer } from '../../src/worker/drainer.js';
import type { Models } from '../../src/worker/models.js';
import { start, workUntil } from '../reembed/support.js';
import { onBoth, type ReembedFixture } from '../reembed/two-spaces.js';
import { instead } from '../support/instead.js';

const ROWS = 40;
/** What one space may write before the other is there: its first chunk beside an index. */
const FIRST_CHUNK = 3;

/** Holds the first write back until both models have answered, so that what it does not write waits in both spaces. */
function sideBySide({ db, models }: ReembedFixture): { db: Database; models: Models } {
  let answers = 0;
  let go = () => {};
  const both = new Promise<void>((resolve) => {
    go = () => setImmediate(resolve);
  });
  const counting =
    (model: EmbeddingModel): EmbeddingModel['embed'] =>
    async (texts, options) => {
      const answer = await model.embed(texts, options);
      // Fewer are the probe's.
      if (texts.length >= ROWS && ++answers === 2) go();
      return answer;
    };
  return {
    db: instead(db, {
      async tx(fn, options) {
        if (options?.flushed !== undefined) await both;
        return db.tx(fn, options);
      },
    }),
    models: instead(models, {
      async forSpace(space) {
        const model = await models.forSpace(space);
        return instead(model, { embed: counting(model) });
      },
    }),
  };
}

onBoth((fixture) => {
  let source: Source;
  let spaces: readonly [live: Space, next: Space];
  let table: string;
  let tables = 0;
  beforeEach(async () => {
    table = `doc_${++tables}`;
    const { db } = fixture();
    await db.exec(`CREATE TABLE ${table} (id int PRIMARY KEY, body text);
      INSERT INTO ${table} SELECT i, 'text ' || i FROM generate_series(1, ${ROWS}) i`);
    const added = await fixture().add({ table, content: { columns: ['body'] }, model: 'fake/a@8', store: 'column' });
    await fixture().work();
    const { id, toSpaceId } = await start(fixture(), table, { model: 'fake/b@12' });
    await workUntil(fixture(), id, ['ready']);
    const next = await getSpace(db, toSpaceId);
    if (!next) throw new Error('no space');
    source = added.source;
    spaces = [added.space, next];
    await ensureIndex(db, source, added.space);
    await db.exec(`CREATE TABLE ${table}_log (id int, old boolean, new boolean);
      CREATE FUNCTION ${table}_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO ${table}_log VALUES (NEW.id, OLD.embedding::text IS DISTINCT FROM NEW.embedding::text, OLD.embedding_2::text IS DISTINCT FROM NEW.embedding_2::text);
        RETURN NULL; END $$;
      CREATE TRIGGER note AFTER UPDATE ON ${table} FOR EACH ROW EXECUTE FUNCTION ${table}_note()`);
  });

  /** Edits every row, and drains both spaces side by side. */
  async function editAndDrain(fixture: ReembedFixture): Promise<void> {
    const { db, models } = sideBySide(fixture);
    await db.exec(`UPDATE ${table} SET body = body || ' Edited.'; DELETE FROM ${table}_log`);
    const gates = createGates(db, {}, () => {});
    const drainer = new Drainer({ db, models, gates, worker: 'test', batchKeys: 2 * ROWS });
    const { signal } = new AbortController();
    await Promise.all(spaces.map(({ id }) => drainer.drain(id, { stop: signal, cut: signal })));
    await drainer.close();
    await gates.close();
  }

  async function counts({ db }: ReembedFixture): Promise<{ fresh: number; failed: number }[]> {
    const extension = await db.vectorExtension();
    if (!extension) throw new Error('no pgvector');
    const codec = await vectorCodec(db, extension);
    const all = [];
    for (const space of spaces) {
      const { fresh, failed } = await db.tx((tx) => openStore(source, space, codec).count(tx));
      all.push({ fresh, failed });
    }
    return all;
  }
  const together = async ({ db }: ReembedFixture) =>
    (await db.query<{ id: number }>(`SELECT id FROM ${table}_log WHERE old AND new`)).length;

  test('one new version of a row carries the vectors of both spaces', async () => {
    await editAndDrain(fixture());
    expect(await counts(fixture())).toEqual(Array(2).fill({ fresh: ROWS, failed: 0 }));
    expect(await together(fixture())).toBeGreaterThanOrEqual(ROWS - 2 * FIRST_CHUNK);
    const { db } = fixture();
    expect(await db.query(`SELECT FROM ${table} WHERE embedding_stale`)).toEqual([]);
    expect(await db.query('SELECT FROM freshvec.lease UNION ALL SELECT FROM freshvec.change_key')).toEqual([]);
  });

  test("what the table refuses of the new vectors is the new space's failure alone", async () => {
    const { db } = fixture();
    await db.exec(`UPDATE ${table} SET embedding_2 = NULL, embedding_2_hash = NULL WHERE id = 7;
      ALTER TABLE ${table} ADD CHECK (id <> 7 OR embedding_2 IS NULL)`);
    await editAndDrain(fixture());
    expect(await counts(fixture())).toEqual([
      { fresh: ROWS, failed: 0 },
      { fresh: ROWS - 1, failed: 1 },
    ]);
    expect(await together(fixture())).toBeGreaterThan(0);
    expect(await db.query('SELECT space_id AS space, key, code FROM freshvec.failure')).toEqual([
      { space: spaces[1].id, key: '7', code: 'write_refused' },
    ]);
  });

  test('what a trigger keeps from the row without a word is a failure of the space whose vector it keeps out', async () => {
    const { db } = fixture();
    await db.exec(`CREATE FUNCTION ${table}_veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.id = 7 THEN NEW.embedding_2 := NULL; END IF;
        IF NEW.id = 8 AND NEW.body = OLD.body THEN RETURN NULL; END IF;
        RETURN NEW; END $$;
      CREATE TRIGGER veto BEFORE UPDATE ON ${table} FOR EACH ROW EXECUTE FUNCTION ${table}_veto()`);
    await editAndDrain(fixture());
    expect(await counts(fixture())).toEqual([
      { fresh: ROWS - 1, failed: 1 },
      { fresh: ROWS - 2, failed: 2 },
    ]);
    expect(await together(fixture())).toBeGreaterThan(0);
    const failures = await db.query('SELECT space_id AS space, key, code FROM freshvec.failure ORDER BY space_id, key');
    const code = 'write_refused';
    expect(failures.filter((one) => one.space === spaces[0].id)).toEqual([{ space: spaces[0].id, key: '8', code }]);
    expect(failures.filter((one) => one.space === spaces[1].id)).toEqual([
      { space: spaces[1].id, key: '7', code },
      { space: spaces[1].id, key: '8', code },
    ]);
    expect(await db.query(`SELECT FROM freshvec.lease`)).toEqual([]);
  });
});
