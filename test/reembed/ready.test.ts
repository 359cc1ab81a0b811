import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { getMigration, loadShare, type Migration, SLOWEST_SHARE } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace } from '../../src/catalog/space.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { takeOver } from '../../src/reembed/transition.js';
import { alterSource, captureNewPartitions } from '../../src/source/index.js';
import { openStore } from '../../src/store/index.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { checkInvariants, deps, start, stepUntil, workUntil } from './support.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
});
afterEach(() => fixture.close());

/** Rows of the space, and how many have the vector of the text that they have now. */
async function counts(spaceId: number) {
  const { db } = fixture;
  const [source, space] = [await getSource(db, 'doc'), await getSpace(db, spaceId)];
  const extension = await db.vectorExtension();
  if (!space || !extension) throw new Error('no space');
  return db.tx(async (tx) => openStore(source, space, await vectorCodec(tx, extension)).count(tx));
}

const now = async (id: number) => {
  const migration = await getMigration(fixture.db, id);
  if (!migration) throw new Error('no migration');
  return migration;
};

describe('a source that is altered before the switch', () => {
  beforeEach(async () => {
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, title text);
      INSERT INTO doc SELECT i, 'text number ' || i, 'title ' || i FROM generate_series(1, 60) i`);
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
    await fixture.work();
  });

  const altered = () => alterSource(fixture.db, 'doc', { content: { columns: ['title', 'body'] } });
  const begin = (options = {}) => start(fixture, 'doc', { model: 'fake/b@12' }, options);

  /** Back to filling the new space, and ready again once each row has its new text's vector there. */
  async function filledAgain({ id, toSpaceId }: Migration): Promise<void> {
    expect(await now(id)).toMatchObject({ state: 'backfilling', token: undefined });
    await checkInvariants(fixture.db, id);
    await expect(control.cutover(fixture.db, 'doc')).rejects.toThrow('not all there and checked');
    await workUntil(fixture, id, ['ready', 'soaking']);
    expect(await counts(toSpaceId)).toMatchObject({ rows: 60, fresh: 60 });
  }

  test('is filled and checked once more: nothing is switched to vectors of the old text', async () => {
    const { db } = fixture;
    const migration = await begin();
    await workUntil(fixture, migration.id, ['ready']);
    await altered();
    await filledAgain(migration);
    expect((await migrationStatus(db, 'doc')).events.map(({ what }) => what)).toContain(
      'the source was altered: every row is visited and checked again',
    );
    await control.cutover(db, 'doc');
  });

  test('with --auto as well', async () => {
    const migration = await begin({ auto: true });
    await stepUntil(fixture, migration.id, 'ready');
    await altered();
    await filledAgain(migration);
  });

  test('while its gates are measured: what they found is of the text before', async () => {
    const migration = await begin();
    let measured = 0;
    await workUntil(fixture, migration.id, ['ready'], {
      runGates: async () => {
        measured += 1;
        if (measured === 1) await altered();
        return [];
      },
    });
    expect(measured).toBe(2);
    expect(await counts(migration.toSpaceId)).toMatchObject({ rows: 60, fresh: 60 });
  });

  test('while it is parked: `resume` goes on with the backfill', async () => {
    const { db } = fixture;
    const migration = await begin();
    await stepUntil(fixture, migration.id, 'ready');
    await db.exec('ALTER TABLE doc RENAME body TO words');
    await expect(stepUntil(fixture, migration.id, 'backfilling')).rejects.toThrow('will not come');
    expect(await now(migration.id)).toMatchObject({ state: 'parked', parkedState: 'ready' });
    await alterSource(db, 'doc', { content: { columns: ['title', 'words'] } });
    expect(await now(migration.id)).toMatchObject({ state: 'parked', parkedState: 'backfilling' });
    await control.resumeMigration(db, 'doc');
    await filledAgain(migration);
  });

  test('is left alone by an alter that changes no text', async () => {
    const { id } = await begin();
    await workUntil(fixture, id, ['ready']);
    await alterSource(fixture.db, 'doc', { longTexts: 'truncate' });
    expect(await now(id)).toMatchObject({ state: 'ready' });
  });
});

test('a partition that comes while it is ready is loaded, whatever the pace was at the end', async () => {
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
    CREATE TABLE doc_low PARTITION OF doc FOR VALUES FROM (0) TO (100);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 60) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
  await db.exec(`UPDATE freshvec.migration SET share = 0, throttled_at = clock_timestamp();
    CREATE TABLE doc_high (LIKE doc INCLUDING DEFAULTS);
    INSERT INTO doc_high (id, body) SELECT i, 'text number ' || i FROM generate_series(101, 140) i;
    ALTER TABLE doc ATTACH PARTITION doc_high FOR VALUES FROM (100) TO (200)`);
  await captureNewPartitions(db, await getSource(db, 'doc'));
  await expect(control.cutover(db, 'doc')).rejects.toThrow('pages have come up');
  await db.query(`UPDATE freshvec.migration SET accepted = '{pending}'`);
  await expect(control.cutover(db, 'doc')).rejects.toThrow('pages have come up');
  // No controller came by: workers load them all the same, slowly.
  expect(await loadShare(db, toSpaceId)).toBe(SLOWEST_SHARE);
  const ready = await takeOver(db, id, '00000000-0000-4000-8000-000000000001', true);
  if (!ready) throw new Error('nothing to do');
  await advance(deps(db), ready, new AbortController().signal);
  expect(await now(id)).toMatchObject({ state: 'backfilling' });
  await checkInvariants(db, id);
  await workUntil(fixture, id, ['ready']);
  expect(await counts(toSpaceId)).toMatchObject({ rows: 100, fresh: 100 });
  await control.cutover(db, 'doc');
});
