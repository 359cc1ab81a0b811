import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { setSpaceCap } from '../../src/budget/space-cap.js';
import { pauseWork, resumeWork } from '../../src/catalog/pause.js';
import type { Source } from '../../src/catalog/source.js';
import type { PgliteDatabase } from '../../src/db/pglite.js';
import { openQueue } from '../../src/queue/open.js';
import { sourceStatus } from '../../src/status/status.js';
import { createModels, type Models } from '../../src/worker/models.js';
import { drainOnce } from '../../src/worker/once.js';
import { startWorker } from '../../src/worker/run.js';
import { eventually } from '../support/eventually.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const person = { kind: 'person', reason: 'a long import' } as const;

describe.each(['postgres', 'pglite'] as const)('a paused source on %s', (engine) => {
  let fixture: Fixture;
  let source: Source;
  /** Takes its time, so that a pause can come while it is asked. */
  let slow: Models;
  beforeAll(async () => {
    fixture = await openFixture(engine);
    slow = createModels({ requestTimeoutMs: 5_000, fake: { latencyMs: 60 } });
    await fixture.db.exec(`CREATE TABLE notes (id int PRIMARY KEY, body text);
      CREATE TABLE others (id int PRIMARY KEY, body text)`);
    ({ source } = await fixture.add({ table: 'notes', content: { columns: ['body'] }, model: 'fake/a@4' }));
    await fixture.add({ table: 'others', content: { columns: ['body'] }, model: 'fake/a@4' });
  });
  afterAll(async () => {
    await slow.close();
    await fixture.close();
  });
  beforeEach(async () => {
    await resumeWork(fixture.db, { sourceId: source.id });
    await fixture.db.exec(`TRUNCATE notes; TRUNCATE others;
      INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 30) i;
      INSERT INTO others SELECT i, 'other ' || i FROM generate_series(1, 30) i`);
    await fixture.work();
  });

  const status = async (name = 'notes') => {
    const [only] = (await sourceStatus(fixture.db, { source: name, exact: true })).sources;
    if (!only) throw new Error('no status');
    return only;
  };
  const leases = () => fixture.db.query('SELECT key FROM freshvec.lease WHERE token IS NOT NULL');
  /** What an app does: edits, new rows, rows that go. */
  const change = (table: string) =>
    fixture.db.exec(`UPDATE ${table} SET body = body || ' edited' WHERE id <= 10;
      DELETE FROM ${table} WHERE id > 25;
      INSERT INTO ${table} SELECT i, 'new ' || i FROM generate_series(31, 40) i`);

  test('is not drained, while the others are; nothing is lost, and after resume all is done', async () => {
    await pauseWork(fixture.db, { sourceId: source.id }, person);
    await change('notes');
    await change('others');
    expect(await fixture.work()).toMatchObject({ written: 20 });
    expect(await status('others')).toMatchObject({ rows: 35, fresh: 35, stale: 0 });
    expect(await status('others')).not.toHaveProperty('paused');
    expect(await status()).toMatchObject({
      rows: 35,
      fresh: 15,
      stale: 20,
      leased: 0,
      paused: { ...person, until: null },
    });

    expect(await resumeWork(fixture.db, { sourceId: source.id })).toBe(true);
    expect(await resumeWork(fixture.db, { sourceId: source.id })).toBe(false);
    expect(await fixture.work()).toMatchObject({ written: 20 });
    const after = await status();
    expect(after).toMatchObject({ rows: 35, fresh: 35, stale: 0, failed: 0, spaces: [{ vectors: 35 }] });
    expect(after).not.toHaveProperty('paused');
  });

  test('one space of it rests while its live one is worked on', async () => {
    const spaceId = await secondSpace();
    await pauseWork(
      fixture.db,
      { sourceId: source.id, spaceId },
      { kind: 'spend', reason: 'the migration has cost enough' },
    );
    await change('notes');
    const pending = (id: number) =>
      fixture.db.query('SELECT DISTINCT key FROM freshvec.change WHERE space_id = $1', [id]);
    await fixture.db.query(
      `INSERT INTO freshvec.change (space_id, key) SELECT $1, i::text FROM generate_series(1, 10) i`,
      [spaceId],
    );
    expect(await fixture.work()).toMatchObject({ written: 20 });
    const resting = await status();
    expect(resting).toMatchObject({ rows: 35, fresh: 35 });
    expect(resting).not.toHaveProperty('paused');
    expect(resting.spaces.find(({ id }) => id === spaceId)?.paused).toEqual({
      kind: 'spend',
      reason: 'the migration has cost enough',
      until: null,
    });
    expect(await pending(spaceId)).toHaveLength(10);
    // More money ends it, and less does not begin it anew.
    await setSpaceCap(fixture.db, spaceId, 5);
    expect((await status()).spaces.some(({ paused }) => paused !== undefined)).toBe(false);
    expect(await fixture.work()).toMatchObject({ written: 10 });
    expect(await pending(spaceId)).toHaveLength(0);
    await pauseWork(fixture.db, { sourceId: source.id, spaceId }, person);
    expect(await resumeWork(fixture.db, { sourceId: source.id })).toBe(true);
    await dropSecondSpace(spaceId);
  });

  /** As a migration makes it: another model, a column of its own. */
  async function secondSpace(): Promise<number> {
    const fingerprint = (await fixture.models.get('fake/b@4')).fingerprint;
    await fixture.db.exec(
      'ALTER TABLE notes ADD next vector(4), ADD next_model text, ADD next_hash uuid, ADD next_stale boolean NOT NULL DEFAULT true',
    );
    const [row] = await fixture.db.query<{ id: number }>(
      `INSERT INTO freshvec.space (source_id, spec, fingerprint, dimensions, state, store, column_name, vector_type, metric,
         index_kind, m, ef_construction)
       SELECT source_id, 'fake/b@4', $2, 4, 'building', store, 'next', vector_type, metric, 'none', m, ef_construction
       FROM freshvec.space WHERE source_id = $1 RETURNING id`,
      [source.id, fingerprint],
    );
    if (!row) throw new Error('no space');
    return row.id;
  }

  async function dropSecondSpace(id: number): Promise<void> {
    await fixture.db.query('DELETE FROM freshvec.space WHERE id = $1', [id]);
    await fixture.db.exec('ALTER TABLE notes DROP next, DROP next_model, DROP next_hash, DROP next_stale');
  }

  test('goes on by itself when its time is over', async () => {
    await pauseWork(fixture.db, { sourceId: source.id }, { ...person, seconds: 0.3 });
    await change('notes');
    expect(await fixture.work()).toMatchObject({ claimed: 0 });
    expect((await status()).paused?.until).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
    await eventually(async () => (await status()).paused === undefined, { what: 'the end of the pause' });
    expect(await fixture.work()).toMatchObject({ written: 20 });
    expect(await status()).toMatchObject({ fresh: 35, stale: 0 });
  });

  test('has the longest of its pauses told, and all of them ended at once', async () => {
    await pauseWork(fixture.db, { sourceId: source.id }, { kind: 'spend', reason: 'the cap', seconds: 600 });
    await pauseWork(fixture.db, { sourceId: source.id }, { kind: 'provider', reason: 'no key', seconds: 30 });
    expect((await status()).paused).toMatchObject({ kind: 'spend', reason: 'the cap', until: expect.any(String) });
    await pauseWork(fixture.db, { sourceId: source.id }, person);
    expect((await status()).paused).toEqual({ ...person, until: null });
    await change('notes');
    expect(await fixture.work()).toMatchObject({ claimed: 0 });
    expect(await resumeWork(fixture.db, { sourceId: source.id })).toBe(true);
    expect(await fixture.work()).toMatchObject({ written: 20 });
  });

  test('is left alone by a running worker, which takes it up again after resume', async () => {
    await pauseWork(fixture.db, { sourceId: source.id }, person);
    await whileWorking(fixture, engine, fixture.models, async () => {
      await change('notes');
      // The same again elsewhere: had the worker looked at notes, these would not come first.
      await change('others');
      await eventually(async () => (await status('others')).stale === 0, { what: 'the other source' });
      await sleep(1500); // A full look of the doorbell, and the catalog's word of a second.
      expect(await status()).toMatchObject({ fresh: 15, stale: 20, leased: 0 });
      await resumeWork(fixture.db, { sourceId: source.id });
      await eventually(async () => (await status()).stale === 0, { what: 'the source that was resumed' });
    });
    expect(await status()).toMatchObject({ rows: 35, fresh: 35, failed: 0, spaces: [{ vectors: 35 }] });
  });

  test('a pause in mid-drain ends it soon, and gives everything back', async () => {
    await fixture.db.exec(`TRUNCATE notes; INSERT INTO notes SELECT i, 'slow ' || i FROM generate_series(1, 1000) i`);
    const running = drainOnce({
      db: fixture.db,
      models: slow,
      gates: createGates(fixture.db, {}, () => {}),
      slots: 1,
      batchKeys: 5, // 200 requests of 60 ms: 12 s.
      signal: new AbortController().signal,
    });
    await eventually(async () => (await status()).fresh > 20, { what: 'the first vectors' });
    await pauseWork(fixture.db, { sourceId: source.id }, person);
    const began = performance.now();
    const report = await running;
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(report.written).toBeLessThan(850);
    expect(await status()).toMatchObject({
      rows: 1000,
      fresh: report.written,
      stale: 1000 - report.written,
      leased: 0,
    });
    expect(await leases()).toEqual([]);
    await resumeWork(fixture.db, { sourceId: source.id });
    await fixture.work();
    expect(await status()).toMatchObject({ rows: 1000, fresh: 1000, stale: 0, spaces: [{ vectors: 1000 }] });
  });

  test('a pause in mid-drain of a running worker too', async () => {
    await whileWorking(fixture, engine, slow, async () => {
      await fixture.db.exec(`TRUNCATE notes; INSERT INTO notes SELECT i, 'slow ' || i FROM generate_series(1, 1000) i`);
      await eventually(async () => (await status()).fresh > 20, { what: 'the first vectors' });
      await pauseWork(fixture.db, { sourceId: source.id }, person);
      await eventually(async () => (await leases()).length === 0, { what: 'the end of the work', timeoutMs: 4_000 });
      const { fresh, stale } = await status();
      expect(stale).toBeGreaterThan(170);
      await sleep(1200);
      expect(await status()).toMatchObject({ fresh, stale, leased: 0 });
    });
    await resumeWork(fixture.db, { sourceId: source.id });
    await fixture.work();
    expect(await status()).toMatchObject({ rows: 1000, fresh: 1000, spaces: [{ vectors: 1000 }] });
  });

  test.runIf(engine === 'postgres')('rows that the app holds are not waited for while it is paused', async () => {
    const app = new pg.Client({ connectionString: fixture.url });
    await app.connect();
    try {
      await app.query(`UPDATE notes SET body = 'held' WHERE id = 1`);
      await app.query('BEGIN; SELECT FROM notes WHERE id = 1 FOR UPDATE');
      await whileWorking(fixture, engine, fixture.models, async () => {
        const waits = async () => (await leases()).length === 1;
        await eventually(waits, { what: 'the vector that waits for its row' });
        await pauseWork(fixture.db, { sourceId: source.id }, person);
        await eventually(async () => (await leases()).length === 0, { what: 'the lease given back', timeoutMs: 5_000 });
        await app.query('ROLLBACK');
        expect(await status()).toMatchObject({ stale: 1, leased: 0 });
        await resumeWork(fixture.db, { sourceId: source.id });
        await eventually(async () => (await status()).stale === 0, { what: 'the row that was held' });
      });
    } finally {
      await app.end();
    }
  });
});

/** Runs a worker in this process for as long as `fn` takes. */
async function whileWorking(
  { db, url }: Fixture,
  engine: Engine,
  models: Models,
  fn: () => Promise<void>,
): Promise<void> {
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const queue = await openQueue(
    engine === 'postgres' ? { backend: 'postgres', url } : { backend: 'pglite', db: db as PgliteDatabase },
    { onError },
  );
  const gates = createGates(db, {}, onError);
  const worker = await startWorker({ db, queue, models, gates, slots: 2, batchKeys: 5, graceMs: 5_000, onError });
  try {
    await fn();
  } finally {
    await worker.stop();
  }
  expect(errors).toEqual([]);
}
