import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { getSpace } from '../../src/catalog/space.js';
import * as control from '../../src/reembed/control.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { createPointerCache, search } from '../../src/search/index.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { checkInvariants, start, workUntil } from './support.js';

const SHAPES = [
  { name: 'column to column', from: 'column', to: 'column' },
  { name: 'column to table', from: 'column', to: 'table' },
  { name: 'table to column', from: 'table', to: 'column' },
  { name: 'table to table', from: 'table', to: 'table' },
] as const;

describe.each<Engine>(['postgres', 'pglite'])('a migration on %s', (engine) => {
  let fixture: Fixture;
  beforeEach(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, kind text);
      INSERT INTO doc SELECT i, 'text number ' || i, 'x' FROM generate_series(1, 300) i`);
  });
  afterEach(() => fixture.close());

  async function counts(spaceId: number) {
    const { db } = fixture;
    const space = await getSpace(db, spaceId);
    const [source] = await import('../../src/catalog/source.js').then((m) => m.listSources(db));
    const extension = await db.vectorExtension();
    if (!space || !source || !extension) throw new Error('no space');
    return db.tx(async (tx) => openStore(source, space, await vectorCodec(tx, extension)).count(tx));
  }

  const find = async (text: string) => {
    const embedQuery = async (spec: string, query: string) => {
      const model = await fixture.models.get(spec);
      const { vectors } = await model.embed([query], { purpose: 'query', signal: new AbortController().signal });
      return vectors[0] ?? new Float32Array();
    };
    return search({ db: fixture.db, embedQuery, pointers: createPointerCache() }, 'doc', { text, k: 1 });
  };

  it.each(SHAPES)('goes from start to done, back and forth: $name', async ({ from, to }) => {
    const { db } = fixture;
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', store: from });
    await fixture.work();
    const { id, toSpaceId, fromSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', store: to });
    await workUntil(fixture, id, ['ready']);
    expect(await counts(toSpaceId)).toMatchObject({ rows: 300, fresh: 300, vectors: 300 });
    // Upkeep compares the index with what it was when it was built.
    const { index } = (await getSpace(db, toSpaceId)) ?? {};
    expect(await db.query('SELECT vectors FROM freshvec.index_build WHERE space_id = $1', [toSpaceId])).toEqual(
      index?.kind === 'hnsw' ? [{ vectors: 300 }] : [],
    );

    await control.cutover(db, 'doc');
    await control.cutover(db, 'doc');
    await checkInvariants(db, id);
    expect((await find('text number 7')).epoch).toBe(2);
    await db.exec(`UPDATE doc SET body = 'edited while soaking' WHERE id = 5; DELETE FROM doc WHERE id = 6;
      INSERT INTO doc VALUES (1000, 'new while soaking', 'x')`);
    await fixture.work();
    expect(await counts(fromSpaceId)).toMatchObject({ rows: 300, fresh: 300, vectors: 300 });
    await control.rollback(db, 'doc');
    await checkInvariants(db, id);
    expect((await find('edited while soaking')).results[0]).toMatchObject({ key: 5, stale: false });
    await control.cutover(db, 'doc');
    expect((await find('new while soaking')).results[0]).toMatchObject({ key: 1000, stale: false });

    await control.complete(db, 'doc');
    await workUntil(fixture, id, ['done']);
    await checkInvariants(db, id);
    const columns = await db.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    );
    const onRows = to === 'column' ? ['embedding_2', 'embedding_2_model', 'embedding_2_hash'] : [];
    const flag = to === 'column' ? [from === 'column' ? 'embedding_stale' : 'embedding_2_stale'] : [];
    expect(columns.map(({ name }) => name).sort()).toEqual(['id', 'body', 'kind', ...onRows, ...flag].sort());
    expect(await db.query(`SELECT to_regclass('freshvec.vector_' || $1) AS t`, [fromSpaceId])).toEqual([{ t: null }]);
    await db.exec(`UPDATE doc SET body = 'edited after it all' WHERE id = 9`);
    await fixture.work();
    expect((await find('edited after it all')).results[0]).toMatchObject({ key: 9, stale: false });
    expect((await migrationStatus(db, 'doc')).state).toBe('done');
  });

  it('an abort leaves the source as it was', async () => {
    const { db } = fixture;
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await workUntil(fixture, id, ['verifying', 'ready']);
    await control.abort(db, 'doc');
    await workUntil(fixture, id, ['aborted']);
    await checkInvariants(db, id);
    const columns = await db.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    );
    expect(columns.map(({ name }) => name)).toEqual([
      'id',
      'body',
      'kind',
      'embedding_stale',
      'embedding',
      'embedding_model',
      'embedding_hash',
    ]);
    await db.exec(`UPDATE doc SET body = 'edited after the abort' WHERE id = 9`);
    await fixture.work();
    expect((await find('edited after the abort')).results[0]).toMatchObject({ key: 9, stale: false });
  });

  it('the same model in another type copies vectors and asks no provider', async () => {
    const { db } = fixture;
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/a@8', type: 'halfvec' });
    const model = await fixture.models.get('fake/a@8');
    const embed = model.embed.bind(model);
    const paid: string[] = [];
    model.embed = (texts, options) => {
      paid.push(...texts);
      return embed(texts, options);
    };
    await db.exec(`UPDATE doc SET body = 'edited meanwhile' WHERE id = 3`);
    await workUntil(fixture, id, ['ready']);
    expect(await counts(toSpaceId)).toMatchObject({ rows: 300, fresh: 300, vectors: 300 });
    // The edit was paid for, once, by the live space.
    expect(paid.filter((text) => text === 'edited meanwhile')).toHaveLength(1);
    expect(paid.filter((text) => text.startsWith('text number'))).toEqual([]);
    const [same] = await db.query<{ n: number }>(
      'SELECT count(*) AS n FROM doc WHERE (embedding <=> embedding_2::vector) < 0.001',
    );
    expect(same?.n).toBe(300);
  });
});
