import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { getSpace } from '../../src/catalog/space.js';
import * as control from '../../src/reembed/control.js';
import { factOf, planReembed } from '../../src/reembed/plan.js';
import { fillByHand, readRows, spent, textsAsked, whose } from '../source/adopted.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { start, workUntil } from './support.js';

const MODEL = 'fake/b@12';

describe.each<Engine>(['postgres', 'pglite'])('reembed start --adopt on %s', (engine) => {
  let fixture: Fixture;
  const model = () => fixture.models.get(MODEL);
  beforeEach(async () => {
    fixture = await openFixture(engine);
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, byhand vector(12));
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 200) i`);
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    await fillByHand(db, await model(), 'byhand', 'id <= 150');
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await fixture.close();
  });

  it('takes the column over that somebody began to fill, pays for the rest, and switches to it', async () => {
    const { db } = fixture;
    const plan = await planReembed(db, 'doc', { model: MODEL, adopt: 'byhand' }, await model());
    expect(plan).toMatchObject({ rows: 200, adopts: 150, blockers: [], verification: { rows: 20 } });
    expect(plan.to).toMatchObject({ column: 'byhand', type: 'vector', adoption: 'open' });
    const before = await spent(db);
    const { id, toSpaceId } = await start(fixture, 'doc', { model: MODEL, adopt: 'byhand' });
    // The same again changes nothing; another column is another move.
    expect((await start(fixture, 'doc', { model: MODEL, adopt: 'byhand' })).id).toBe(id);
    await expect(start(fixture, 'doc', { model: MODEL, adopt: 'other' })).rejects.toThrow(/on its way/);
    const asked = textsAsked(await model());
    await workUntil(fixture, id, ['backfilling']);
    await db.exec(`UPDATE doc SET body = 'text edited' WHERE id = 5`);
    await workUntil(fixture, id, ['ready']);
    expect(new Set(asked.texts())).toEqual(
      new Set(['text edited', ...Array.from({ length: 50 }, (_, i) => `text number ${151 + i}`)]),
    );
    // It is put down beside the work.
    await vi.waitFor(async () => expect(await spent(db)).toBeGreaterThan(before), { timeout: 10_000 });
    for (const row of await readRows(db, 'byhand')) {
      const expected = row.id === 5 || row.id > 150 ? 'embedded' : 'theirs';
      expect([row.id, await whose(row, await model()), row.hashed]).toEqual([row.id, expected, true]);
    }
    expect((await getSpace(db, toSpaceId))?.adoption).toBe('done');
    await control.cutover(db, 'doc');
    await control.complete(db, 'doc');
    await workUntil(fixture, id, ['done']);
    expect(await db.query('SELECT count(byhand)::int AS n FROM doc')).toEqual([{ n: 200 }]);
  });

  it('plans no room for vectors that are there, and no index where one serves', async () => {
    const { db } = fixture;
    await fillByHand(db, await model(), 'byhand');
    await db.exec('CREATE INDEX theirs ON doc USING hnsw (byhand vector_cosine_ops)');
    const planOf = async (over: Parameters<typeof planReembed>[2]) =>
      planReembed(db, 'doc', { model: MODEL, index: 'hnsw', ...over }, await model());
    const [adopting, anew] = [await planOf({ adopt: 'byhand' }), await planOf({ column: 'anew' })];
    const builds = ({ later }: typeof anew) => later.filter(({ sql }) => sql.startsWith('CREATE INDEX')).length;
    expect([builds(adopting), builds(anew)]).toEqual([0, 1]);
    expect([factOf(adopting, 'indexBytes'), factOf(adopting, 'buildSeconds')]).toEqual([0, 0]);
    expect(Number(factOf(anew, 'indexBytes'))).toBeGreaterThan(0);
    expect(Number(factOf(adopting, 'diskBytes'))).toBeLessThan(Number(factOf(anew, 'diskBytes')));
    expect(Number(factOf(adopting, 'walRowBytes'))).toBeLessThan(Number(factOf(anew, 'walRowBytes')));
    expect(adopting.notes.join('\n')).toMatch(/index theirs serves as it is/);
  });

  it('an abort takes the companions away and leaves the column with its vectors', async () => {
    const { db } = fixture;
    const { id } = await start(fixture, 'doc', { model: MODEL, adopt: 'byhand' });
    await workUntil(fixture, id, ['verifying', 'ready']);
    await control.abort(db, 'doc');
    await workUntil(fixture, id, ['aborted']);
    const columns = await db.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attname LIKE 'byhand%' AND NOT attisdropped`,
    );
    expect(columns).toEqual([{ name: 'byhand' }]);
    expect(await db.query('SELECT count(byhand)::int AS n FROM doc')).toEqual([{ n: 200 }]);
    expect(await db.query(`SELECT 1 FROM pg_indexes WHERE tablename = 'doc' AND indexdef LIKE '%byhand%'`)).toEqual([]);
  });

  it('refuses a column that is not there, is of another model, or is not the one named', async () => {
    const { db } = fixture;
    const blockers = async (definition: Parameters<typeof planReembed>[2]) =>
      (await planReembed(db, 'doc', definition, await model())).blockers.join('\n');
    expect(await blockers({ adopt: 'byhandd' })).toMatch(/no column "byhandd" to adopt.*"byhand"/);
    expect(await blockers({ adopt: 'embedding' })).toMatch(/"embedding" belongs to the source "doc"/);
    expect(await blockers({ adopt: 'byhand', column: 'x' })).toMatch(/--adopt byhand.*leave `--column` away/);
    expect(await blockers({ adopt: 'byhand', store: 'table' })).toMatch(/only a column of the table/);
    expect(await blockers({ column: 'byhand' })).toMatch(/did not make/);
  });
});
