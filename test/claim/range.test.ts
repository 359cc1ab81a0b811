import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import { claimRange } from '../../src/claim/claim-range.js';
import { PAST_LAST_PAGE, type RangeRow, replaceRewritten, takeRange } from '../../src/claim/range.js';
import type { Executor } from '../../src/db/database.js';
import { insertLoadRanges } from '../../src/source/ranges.js';
import type { Store } from '../../src/store/port.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
let source: Source;
let space: Space;
let store: Store;
beforeAll(async () => {
  fixture = await openFixture();
  await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text, note text)');
  ({ source, space, store } = await fixture.add({
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/m@8',
    store: 'table',
    index: 'none',
  }));
});
afterAll(() => fixture.close());
beforeEach(() =>
  fixture.db.exec(`TRUNCATE doc;
    TRUNCATE freshvec.change, freshvec.change_pack, freshvec.lease, freshvec.range, freshvec.failure, freshvec.vector_${space.id}`),
);

const ranges = () => fixture.db.query<{ to_page: number }>('SELECT to_page FROM freshvec.range ORDER BY id');

test('two visits that find a table rewritten do not wait for one another, and all of it is visited anew', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc SELECT i, 'text ' || i, repeat('x', 1500) FROM generate_series(1, 1500) i;
    TRUNCATE freshvec.change, freshvec.change_pack`);
  await insertLoadRanges(db, source, space.id, 'load');
  expect((await ranges()).length).toBeGreaterThan(4);
  await db.session((session) => session.query('VACUUM FULL doc'));
  const taken = async (tx: Executor): Promise<RangeRow> => {
    const range = await takeRange(tx, space.id, source);
    if (!range) throw new Error('no range is free');
    return range;
  };
  await db.tx(async (one) => {
    const first = await taken(one);
    await db.tx(async (other) => {
      const second = await taken(other);
      expect(second.id).not.toBe(first.id);
      await Promise.all([replaceRewritten(one, space.id, first), replaceRewritten(other, space.id, second)]);
    });
  });
  const left = await ranges();
  expect(left.some(({ to_page }) => to_page === PAST_LAST_PAGE)).toBe(true);
  await fixture.work();
  expect(await ranges()).toEqual([]);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1500, fresh: 1500 });
}, 60_000);

test('whoever comes later adds no pages to those that are to be visited anew', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc SELECT i, 'text ' || i, repeat('x', 1500) FROM generate_series(1, 1500) i`);
  await insertLoadRanges(db, source, space.id, 'load');
  await db.session((session) => session.query('VACUUM FULL doc'));
  await db.tx(async (late) => {
    const range = await takeRange(late, space.id, source);
    const claim = { token: '00000000-0000-4000-8000-000000000001', worker: 'test', limit: 10 };
    expect(await claimRange(db, space.id, store, claim)).toMatchObject({ visited: true, leased: [] });
    const anew = (await ranges()).length;
    if (range) await replaceRewritten(late, space.id, range);
    expect(await late.query('SELECT FROM freshvec.range')).toHaveLength(anew - 1);
  });
});
