import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { PAST_LAST_PAGE } from '../../src/claim/range.js';
import { insertLoadRanges } from '../../src/source/ranges.js';
import { claimNext } from '../../src/stages/claim-next.js';
import { claimContext } from '../support/claim-context.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test.each(['postgres', 'pglite'] as const)(
  'rows that move while a table is loaded are not missed, on %s',
  async (engine) => {
    fixture = await openFixture(engine);
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, note text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 500) i`);
    const { store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/p@16',
      index: 'none',
    });
    // Of no interest to capture; the rows' new versions go to pages that were not there when the load was planned.
    await db.query(`UPDATE doc SET note = repeat('x', 200)`);
    await fixture.work();
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 500, fresh: 500 });
  },
);

test('a first load gets its turn while there are more edits than can be done', async () => {
  fixture = await openFixture('pglite');
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 500) i`);
  const { store } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/p@16' });
  const context = claimContext(db, store, 4);
  const keys: number[] = [];
  for (let i = 0; i < 20; i++) {
    await db.query(`UPDATE doc SET body = body || '!' WHERE id BETWEEN $1 AND $2`, [400 + 5 * i, 404 + 5 * i]);
    const claim = await claimNext(context, randomUUID());
    keys.push(...(claim?.keys ?? []).map(({ key }) => Number(key)));
  }
  expect(keys.some((key) => key < 400)).toBe(true);
  expect(keys.filter((key) => key >= 400).length).toBeGreaterThan(keys.length / 2);
});

test('a transaction that commits below what was claimed already is claimed in one go', async () => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 501) i`);
  const { store } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/p@16' });
  await fixture.work();
  const context = claimContext(db, store, 50);
  const claimed = async () => {
    let keys = 0;
    for (let claim = await claimNext(context, randomUUID()); claim; claim = await claimNext(context, randomUUID()))
      keys += claim.keys.length;
    return keys;
  };
  await db.session(async (late) => {
    await late.query('BEGIN');
    await late.query(`UPDATE doc SET body = body || '!' WHERE id <= 500`);
    await db.query(`UPDATE doc SET body = body || '!' WHERE id = 501`);
    expect(await claimed()).toBe(1);
    await late.query('COMMIT');
  });
  context.cursor.lookAgain();
  expect(await claimed()).toBe(500);
});

test('of a space that is being built edits come first, and its pages last', async () => {
  fixture = await openFixture('pglite');
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 100) i`);
  const { store } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/p@16' });
  await db.query(`UPDATE freshvec.space SET state = 'building'`);
  const context = claimContext(db, store, 20);
  const claim = async () => {
    context.cursor.lookAgain();
    const { keys = [], priority } = (await claimNext(context, randomUUID())) ?? {};
    return { keys: keys.map(({ key }) => Number(key)), priority };
  };
  expect(await claim()).toMatchObject({ priority: 'load' });
  await db.query(`UPDATE doc SET body = body || '!' WHERE id = 99`);
  expect(await claim()).toEqual({ keys: [99], priority: 'interactive' });
  await db.query('INSERT INTO freshvec.change (space_id, lane, key) VALUES ($1, 1, $2)', [store.space.id, '98']);
  expect(await claim()).toEqual({ keys: [98], priority: 'bulk' });
  expect(await claim()).toMatchObject({ priority: 'load' });
});

test('a sweep that finds nothing to do lets edits through, and rests', async () => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 100) i`);
  const { source, space, store } = await fixture.add({
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/p@16',
  });
  await fixture.work();
  for (let i = 0; i < 5; i++) await insertLoadRanges(db, source, space.id, 'sweep');
  const ranges = async () => (await db.query('SELECT FROM freshvec.range')).length;
  let edited = false;
  const slow = instead(store, {
    async diff(tx, pages, limit) {
      const keys = await store.diff(tx, pages, limit);
      if (!edited) await db.query(`UPDATE doc SET body = 'edited' WHERE id = 7`);
      edited = true;
      await sleep(100);
      return keys;
    },
  });
  const context = claimContext(db, slow, 20);
  expect(await claimNext(context, randomUUID())).toMatchObject({ keys: [], priority: 'load' });
  expect(context.load.isFree()).toBe(false);
  expect(await ranges()).toBe(4);
  expect(await claimNext(context, randomUUID())).toMatchObject({ keys: [{ key: '7' }], priority: 'interactive' });
  expect(await ranges()).toBe(4);
});

test('edits do not wait for the visit of a whole table, and what it finds is embedded', async () => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, note text);
    INSERT INTO doc SELECT i, 'text ' || i, repeat('x', 1500) FROM generate_series(1, 2000) i`);
  const { space, store } = await fixture.add({
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/p@16',
    index: 'none',
  });
  await fixture.work();
  await db.query(`INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
    SELECT ${space.id}, 'load', 'doc'::regclass, pg_relation_filenode('doc'), 0, ${PAST_LAST_PAGE}`);
  // As a row that was moved: nobody tells of it.
  await db.query('UPDATE doc SET embedding_hash = NULL WHERE id = 1000');
  let go = () => {};
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  let visiting = false;
  const slow = instead(store, {
    async diff(tx, pages, limit) {
      const keys = await store.diff(tx, pages, limit);
      visiting = true;
      await held;
      return keys;
    },
  });
  const context = claimContext(db, slow, 20);
  expect(await claimNext(context, randomUUID())).toBeUndefined();
  try {
    await eventually(() => visiting, { what: 'the visit' });
    await db.query(`UPDATE doc SET body = 'edited' WHERE id = 7`);
    expect(await claimNext(context, randomUUID())).toMatchObject({ keys: [{ key: '7' }] });
    expect(await claimNext(context, randomUUID())).toBeUndefined();
    expect(await db.query('SELECT FROM freshvec.range')).toHaveLength(1);
  } finally {
    go();
    await context.longVisit.ended();
  }
  expect(await db.query('SELECT FROM freshvec.range')).toEqual([]);
  context.cursor.lookAgain();
  expect(await claimNext(context, randomUUID())).toMatchObject({ keys: [{ key: '1000' }], priority: 'bulk' });
});

test('a visit of a whole table that fails is told of by the drains that follow', async () => {
  fixture = await openFixture('pglite');
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, note text);
    INSERT INTO doc SELECT i, 'text ' || i, repeat('x', 1500) FROM generate_series(1, 2000) i`);
  const { store } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/p@16' });
  await db.query('DELETE FROM freshvec.range WHERE to_page < $1', [PAST_LAST_PAGE]);
  let diffs = 0;
  const failing = instead(store, {
    async diff(tx, pages, limit) {
      diffs += 1;
      if (diffs === 1) throw new TypeError('no luck');
      return store.diff(tx, pages, limit);
    },
  });
  const context = claimContext(db, failing, 20);
  expect(await claimNext(context, randomUUID())).toBeUndefined();
  await context.longVisit.ended();
  await expect(claimNext(context, randomUUID())).rejects.toThrow('no luck');
  const waiting = async () => (await db.query('SELECT FROM freshvec.change')).length;
  expect(await claimNext(context, randomUUID())).toBeUndefined();
  await context.longVisit.ended();
  expect(await waiting()).toBe(2000);
});
