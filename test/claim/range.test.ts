import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import { claimRange, visitLong } from '../../src/claim/claim-range.js';
import { PAST_LAST_PAGE, type RangeRow, replaceRewritten, takeRange } from '../../src/claim/range.js';
import { settle } from '../../src/claim/settle.js';
import type { Executor } from '../../src/db/database.js';
import { insertLoadRanges } from '../../src/source/ranges.js';
import { claimNext } from '../../src/stages/claim-next.js';
import type { Store } from '../../src/store/port.js';
import { claimContext } from '../support/claim-context.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

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
const pruneRange = () =>
  fixture.db.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page) VALUES ($1, 'prune', $2, 0, 0, 0)`,
    [space.id, source.relation.oid],
  );

const visit = (visited: Store) =>
  visitLong(fixture.db, space.id, visited, { adopt: 0, stop: new AbortController().signal });

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

test('a look for what deleted rows left that fails is told of, and is to be done again', async () => {
  await pruneRange();
  const failing = instead(store, {
    orphans: () => Promise.reject(Object.assign(new Error('integer out of range'), { code: '22003' })),
  });
  await expect(visit(failing)).rejects.toMatchObject({ code: '22003' });
  expect(await ranges()).toHaveLength(1);
});

test('a row that comes back between the look for what it left and the hand-over keeps its vector', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc VALUES (1, 'one'), (2, 'two')`);
  await fixture.work();
  await db.exec('DELETE FROM doc; TRUNCATE freshvec.change');
  await pruneRange();
  const slow = instead(store, {
    async orphans(tx, limit) {
      const keys = await store.orphans(tx, limit);
      await db.exec(`INSERT INTO doc VALUES (1, 'one')`);
      // What a worker makes of the change, before the visit commits.
      const [{ state } = { state: 'none' }] = await db.tx((reader) => store.read(reader, ['1']));
      expect(state).toBe('fresh');
      await db.exec('DELETE FROM freshvec.change');
      return keys;
    },
  });
  expect(await visit(slow)).toMatchObject({ visited: true });
  expect(await fixture.work()).toMatchObject({ claimed: 2, written: 0 });
  expect(await db.tx((tx) => store.count(tx))).toEqual({ rows: 1, fresh: 1, failed: 0, vectors: 1 });
});

test('what an emptied table leaves of a key that a worker holds goes once it is given up', async () => {
  const { db } = fixture;
  await db.exec(`INSERT INTO doc VALUES (1, 'one')`);
  await fixture.work();
  // Read while the row was there.
  const token = '00000000-0000-4000-8000-000000000002';
  await db.query(
    `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since) VALUES ($1, '1', $2, now() + interval '1 minute', now())`,
    [space.id, token],
  );
  const [row] = await db.tx((tx) => store.read(tx, ['1']));
  await db.exec('TRUNCATE doc');
  expect(await visit(store)).toMatchObject({ visited: true });
  expect(await ranges()).toEqual([]);
  expect(await claimNext(claimContext(db, store, 10), '00000000-0000-4000-8000-000000000003')).toBeUndefined();
  const item = { key: '1', hash: row?.hash ?? '', vector: new Float32Array(8).fill(1) };
  expect(await db.tx((tx) => store.write(tx, token, [item]))).toEqual(new Map([['1', 'gone']]));
  await db.tx((tx) => settle(tx, space.id, token, [{ key: '1', end: 'done', vector: 'none' }]));
  await fixture.work();
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 0, vectors: 0 });
});

test('many vectors without a row are found in several visits, one after the other is worked off', async () => {
  const { db } = fixture;
  const { fingerprint } = space;
  await db.query(
    `INSERT INTO freshvec.vector_${space.id} (id, hash, model, embedding)
     SELECT i, gen_random_uuid(), $1, '[1,1,1,1,1,1,1,1]' FROM generate_series(1, 10500) i`,
    [fingerprint],
  );
  await pruneRange();
  expect(await visit(store)).toMatchObject({ visited: true });
  expect(await visit(store)).toMatchObject({ visited: false, long: true });
  await db.exec(`DELETE FROM freshvec.vector_${space.id} WHERE id::text IN (SELECT key FROM freshvec.change);
    TRUNCATE freshvec.change`);
  expect(await ranges()).toHaveLength(1);
  expect(await fixture.work()).toMatchObject({ claimed: 500, unpaid: 500 });
  expect(await ranges()).toEqual([]);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ vectors: 0 });
});
