import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace } from '../../src/catalog/space.js';
import { openDatabase } from '../../src/db/open.js';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import * as control from '../../src/reembed/control.js';
import { createPointerCache, type PointerCache, search } from '../../src/search/index.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { Drainer } from '../../src/worker/drainer.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { checkInvariants, start, workUntil } from './support.js';

const ROWS = 60;

describe.each<Engine>(['postgres', 'pglite'])('cutover --rename on %s', (engine) => {
  let fixture: Fixture;
  beforeEach(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, ${ROWS}) i`);
  });
  afterEach(() => fixture.close());

  async function migrate(to: Parameters<typeof start>[2] = { model: 'fake/b@12' }) {
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    const migration = await start(fixture, 'doc', to);
    return workUntil(fixture, migration.id, ['ready']);
  }

  async function store(spaceId: number) {
    const { db } = fixture;
    const [source, space, extension] = [
      await getSource(db, 'doc'),
      await getSpace(db, spaceId),
      await db.vectorExtension(),
    ];
    if (!space || !extension) throw new Error('no space');
    return openStore(source, space, await vectorCodec(db, extension));
  }

  const embedQuery = async (spec: string, text: string) => {
    const model = await fixture.models.get(spec);
    const { vectors } = await model.embed([text], { purpose: 'query', signal: new AbortController().signal });
    return vectors[0] ?? new Float32Array();
  };
  const find = (pointers: PointerCache, text: string, k = 1) =>
    search({ db: fixture.db, embedQuery, pointers }, 'doc', { text, k });

  /** Models of the vectors under each of the two names. */
  async function modelsUnder(): Promise<{ embedding: string; embedding_2: string }> {
    const [row] = await fixture.db.query<{ embedding: string; embedding_2: string }>(
      `SELECT string_agg(DISTINCT split_part(embedding_model, '#', 1), ',') AS embedding,
         string_agg(DISTINCT split_part(embedding_2_model, '#', 1), ',') AS embedding_2 FROM doc`,
    );
    if (!row) throw new Error('no row');
    return row;
  }
  const A_B = { embedding: 'fake/a@8', embedding_2: 'fake/b@12' };
  const B_A = { embedding: 'fake/b@12', embedding_2: 'fake/a@8' };

  it('the names go with the switch, and back with a rollback; both spaces stay fresh', async () => {
    const { db } = fixture;
    const { id, fromSpaceId, toSpaceId } = await migrate();
    await buildIndexes(db); // The old space's, which no migration looks after.
    const pointers = createPointerCache();
    expect((await find(pointers, 'text number 7')).results[0]).toMatchObject({ key: 7 });
    for (const round of [1, 2]) {
      expect(await control.cutover(db, 'doc', { rename: true })).toMatchObject({ state: 'soaking', renamed: true });
      expect(await modelsUnder()).toEqual(B_A);
      await checkInvariants(db, id);
      const after = (await find(pointers, 'text number 7')).results[0];
      expect(after).toMatchObject({ key: 7, stale: false, model: expect.stringContaining('fake/b@12') });
      expect(Object.keys(after?.row ?? {})).toEqual(['id', 'body']);
      await db.query(`UPDATE doc SET body = 'edited in round ' || $1 WHERE id = 5`, [round]);
      await fixture.work();
      expect(await modelsUnder()).toEqual(B_A);
      expect((await find(pointers, `edited in round ${round}`)).results[0]).toMatchObject({ key: 5, stale: false });
      for (const spaceId of [fromSpaceId, toSpaceId]) {
        const { source, space, count } = await store(spaceId);
        expect(await db.tx((tx) => count(tx))).toMatchObject({ rows: ROWS, fresh: ROWS });
        expect(await indexState(db, source, space)).toBe('valid');
      }
      // A second time changes nothing.
      expect(await control.cutover(db, 'doc', { rename: true })).toMatchObject({ renamed: true });
      expect(await modelsUnder()).toEqual(B_A);

      expect(await control.rollback(db, 'doc')).toMatchObject({ state: 'rolled_back', renamed: false });
      expect(await modelsUnder()).toEqual(A_B);
      await checkInvariants(db, id);
      expect((await find(pointers, `edited in round ${round}`)).results[0]).toMatchObject({
        key: 5,
        stale: false,
        model: expect.stringContaining('fake/a@8'),
      });
    }
    await control.cutover(db, 'doc', { rename: true });
    await control.complete(db, 'doc');
    await workUntil(fixture, id, ['done']);
    const columns = await db.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped`,
    );
    expect(columns.map(({ name }) => name).sort()).toEqual(
      ['id', 'body', 'embedding', 'embedding_model', 'embedding_hash', 'embedding_stale'].sort(),
    );
    await db.exec(`UPDATE doc SET body = 'edited after it all' WHERE id = 9`);
    await fixture.work();
    expect((await find(pointers, 'edited after it all')).results[0]).toMatchObject({ key: 9, stale: false });
    const live = await store(toSpaceId);
    expect(await indexState(db, live.source, live.space)).toBe('valid');
  });

  it('is refused, and nothing changed, while views or functions stand on the columns', async () => {
    const { db } = fixture;
    const { id } = await migrate();
    await db.exec(`CREATE SCHEMA app; CREATE VIEW app.near AS SELECT id, embedding_2 FROM doc;
      CREATE VIEW app.far AS SELECT id, body FROM doc;
      CREATE FUNCTION app.model(int) RETURNS text BEGIN ATOMIC SELECT embedding_model FROM doc WHERE id = $1; END`);
    const refusal = control.cutover(db, 'doc', { rename: true });
    await expect(refusal).rejects.toMatchObject({
      code: 'migration_refused',
      message: expect.stringMatching(/the function app\.model\(integer\), the view app\.near would go on/),
    });
    expect(await modelsUnder()).toEqual(A_B);
    await checkInvariants(db, id);
    // Without new names nothing stands in the way; then the names cannot come later.
    expect(await control.cutover(db, 'doc')).toMatchObject({ state: 'soaking', renamed: false });
    expect(await modelsUnder()).toEqual(A_B);
    await expect(control.cutover(db, 'doc', { rename: true })).rejects.toMatchObject({
      message: expect.stringContaining('`rollback`, then `cutover --rename`'),
    });
    await control.rollback(db, 'doc');
    await db.exec('DROP VIEW app.near; DROP FUNCTION app.model(int)');
    expect(await control.cutover(db, 'doc', { rename: true })).toMatchObject({ renamed: true });
  });

  it('is refused where a space has a table of its own', async () => {
    const { db } = fixture;
    await migrate({ model: 'fake/b@12', store: 'table' });
    await expect(control.cutover(db, 'doc', { rename: true })).rejects.toMatchObject({
      code: 'migration_refused',
      message: expect.stringContaining('without --rename'),
    });
    expect(await control.cutover(db, 'doc')).toMatchObject({ state: 'soaking', renamed: false });
  });

  it('a worker that knows the old names writes nothing under them, and looks again', async () => {
    const { db, models } = fixture;
    const { fromSpaceId, toSpaceId } = await migrate({ model: 'fake/b@8' });
    const gates = createGates(db, {}, () => {});
    const drainer = new Drainer({ db, models, gates, worker: 'old:1', batchKeys: 10 });
    const never = new AbortController().signal;
    try {
      // It has looked both spaces up, and the catalog's word is good for a second.
      for (const spaceId of [fromSpaceId, toSpaceId]) await drainer.drain(spaceId, { stop: never, cut: never });
      const old = await store(fromSpaceId);
      await control.cutover(db, 'doc', { rename: true });

      const token = randomUUID();
      await db.query(
        `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, since)
         VALUES ($1, '3', $2::uuid, 'old:2', clock_timestamp() + interval '1 h', now())`,
        [fromSpaceId, token],
      );
      const [row] = await db.query<{ hash: string }>('SELECT embedding_hash::text AS hash FROM doc WHERE id = 3');
      const item = { key: '3', hash: row?.hash ?? '', vector: new Float32Array(8).fill(0.5) };
      const snapshot = () => db.query('SELECT * FROM doc ORDER BY id');
      const before = await snapshot();
      for (const change of [
        () => db.tx((tx) => old.write(tx, token, [item])),
        () => db.tx((tx) => old.confirm(tx, token, ['3'])),
        () => db.tx((tx) => old.remove(tx, token, ['3'])),
      ])
        expect([...(await change())]).toEqual([['3', 'changed']]);
      expect(await snapshot()).toEqual(before);
      const [relation] = await db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid::int8 AS oid`);
      const pages = { relationOid: relation?.oid ?? 0, fromPage: 0, toPage: 100 };
      for (const read of [
        () => db.tx((tx) => old.read(tx, ['3'])),
        () => db.tx((tx) => old.vectors(tx, ['3'])),
        () => db.tx((tx) => old.diff(tx, pages, 10)),
      ])
        await expect(read()).rejects.toMatchObject({ code: 'space_renamed' });
      await db.query('DELETE FROM freshvec.lease');

      // The worker itself: a drain under the old names ends without an error, and the next one does the work.
      await db.exec(`UPDATE doc SET body = 'edited under an old worker' WHERE id = 3`);
      for (const spaceId of [fromSpaceId, toSpaceId]) {
        let written = 0;
        for (let drains = 0; drains < 2; drains++) {
          const report = await drainer.drain(spaceId, { stop: never, cut: never });
          expect(report.failed).toBe(0);
          written += report.written;
        }
        expect(written).toBe(1);
      }
      expect(await modelsUnder()).toEqual({ embedding: 'fake/b@8', embedding_2: 'fake/a@8' });
      for (const spaceId of [fromSpaceId, toSpaceId]) {
        const { count } = await store(spaceId);
        expect(await db.tx((tx) => count(tx))).toMatchObject({ rows: ROWS, fresh: ROWS });
      }
    } finally {
      await drainer.close();
      await gates.close();
    }
  });

  it.runIf(engine === 'postgres').each([
    { name: 'another model', to: { model: 'fake/b@12' } },
    { name: 'another type of the same model', to: { model: 'fake/a@8', type: 'halfvec' as const } },
  ])('no search fails, misses or mixes models while names go back and forth: $name', async ({ to }) => {
    const { fromSpaceId, toSpaceId } = await migrate(to);
    const [from, target] = [await getSpace(fixture.db, fromSpaceId), await getSpace(fixture.db, toSpaceId)];
    const onError = () => {};
    const other = await openDatabase({
      kind: 'postgres',
      url: fixture.url,
      poolSize: 2,
      applicationName: 'switch',
      onError,
    });
    const [first] = await fixture.db.query<{ literal: string }>(
      'SELECT embedding::text AS literal FROM doc WHERE id = 7',
    );
    const stop = new AbortController();
    let switches = 0;
    const switching = (async () => {
      while (!stop.signal.aborted) {
        await control.cutover(other, 'doc', { rename: true });
        await control.rollback(other, 'doc');
        switches += 2;
      }
    })();
    const working = (async () => {
      for (let i = 0; !stop.signal.aborted; i++) {
        await other.query(`UPDATE doc SET body = 'text number 1, edit ' || $1 WHERE id = 1`, [i]);
        await fixture.work();
        await sleep(5);
      }
    })();
    switching.catch(() => stop.abort());
    working.catch(() => stop.abort());
    const epochs = new Set<number>();
    const pointers = createPointerCache();
    try {
      for (let i = 0; (i < 150 || epochs.size < 12) && !stop.signal.aborted; i++) {
        const key = (i % (ROWS - 1)) + 2;
        const { results, epoch, space } = await find(pointers, `text number ${key}`, 3);
        expect(space).toBe(epoch % 2 === 1 ? fromSpaceId : toSpaceId);
        expect(results.map(({ model }) => model)).toEqual(
          Array(3).fill(epoch % 2 === 1 ? from?.fingerprint : target?.fingerprint),
        );
        expect(results[0]).toMatchObject({ key, distance: expect.closeTo(0, 2) });
        epochs.add(epoch);
        // SQL of the app's own, through the function that checks.
        const near = await fixture.db.query('SELECT key FROM freshvec.search($1, $2, $3::text::vector, 1)', [
          'doc',
          from?.fingerprint,
          first?.literal,
        ]);
        if (from?.fingerprint !== target?.fingerprint) expect(near).toEqual([{ key: '7' }]);
      }
    } finally {
      stop.abort();
      await Promise.allSettled([switching, working]);
      await other.close();
    }
    await Promise.all([switching, working]);
    expect(switches).toBeGreaterThan(5);
    await fixture.work();
    for (const spaceId of [fromSpaceId, toSpaceId]) {
      const { count } = await store(spaceId);
      expect(await fixture.db.tx((tx) => count(tx))).toMatchObject({ rows: ROWS, fresh: ROWS });
    }
    expect(await fixture.db.query('SELECT key, code FROM freshvec.failure')).toEqual([]);
  });
});
