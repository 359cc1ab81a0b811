import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { discardFailures, listFailures, retryFailures } from '../../src/claim/failures.js';
import { alterSource } from '../../src/source/index.js';
import { drainAlone } from '../support/drain-alone.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(
    `CREATE TABLE doc (id int PRIMARY KEY, body text, n int); INSERT INTO doc SELECT i, 'text ' || i, i FROM generate_series(1, 60) i`,
  );
});
afterEach(() => fixture.close());

const add = (store: StoreKind = 'column') =>
  fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', store, index: 'none' });
describe('a row whose update the table refuses', () => {
  test.each([
    [
      'a constraint',
      'ALTER TABLE doc ADD CHECK (n <> 7) NOT VALID',
      'ALTER TABLE doc DROP CONSTRAINT doc_n_check',
      '23514',
    ],
    [
      'a trigger',
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no: %', NEW.body; END $$;
       CREATE TRIGGER refuse BEFORE UPDATE ON doc FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION refuse()`,
      'DROP TRIGGER refuse ON doc',
      'P0001',
    ],
  ])('is set aside, and its neighbours are written: %s', async (_, refuse, mend, state) => {
    const { db } = fixture;
    const { store } = await add();
    await db.exec(refuse);
    expect(await fixture.work()).toMatchObject({ written: 59, failed: 1 });
    const [failure, ...others] = await listFailures(db, 'doc');
    expect(others).toEqual([]);
    expect(failure).toMatchObject({ key: '7', code: 'write_refused' });
    expect(failure?.message).toContain(state);
    expect(failure?.message).not.toContain('text 7');
    // It is not paid for again as long as its text stays.
    await db.query(`SELECT freshvec.enqueue('doc', '7')`);
    expect(await fixture.work()).toMatchObject({ claimed: 1, written: 0, tokens: 0 });
    await db.exec(mend);
    expect(await retryFailures(db, 'doc')).toBe(1);
    await fixture.work();
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 60, fresh: 60 });
  });

  test('where it refuses every row, none is set aside: it is not for what one of them says', async () => {
    const { db } = fixture;
    const { space } = await add();
    await db.exec('ALTER TABLE doc ADD CHECK (embedding IS NULL)');
    // All in one batch: several workers would share them out.
    await expect(drainAlone(fixture, space.id, 100)).rejects.toMatchObject({ code: '23514' });
    expect(await listFailures(db, 'doc')).toEqual([]);
    await db.exec('ALTER TABLE doc DROP CONSTRAINT doc_embedding_check');
    expect(await fixture.work()).toMatchObject({ written: 60, failed: 0 });
  });

  test('keeps nobody waiting where its vector is to go, either', async () => {
    const { db } = fixture;
    await add();
    await fixture.work();
    await alterSource(db, 'doc', { where: 'id > 10' });
    await db.exec('ALTER TABLE doc ADD CHECK (n <> 7) NOT VALID');
    await fixture.work();
    expect(await db.query('SELECT id FROM doc WHERE id <= 10 AND embedding IS NOT NULL')).toEqual([{ id: 7 }]);
    expect(await listFailures(db, 'doc')).toMatchObject([{ key: '7', code: 'write_refused' }]);
  });
});

describe.each(['NULL', 'OLD'])('a row that a trigger keeps as it is, without a word: RETURN %s', (kept) => {
  const veto = () =>
    fixture.db.exec(`CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN ${kept}; END $$;
      CREATE TRIGGER veto BEFORE UPDATE ON doc FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION veto()`);
  const only7 = [{ key: '7', code: 'write_refused' }];

  test('is paid for once and set aside, and its neighbours are written', async () => {
    const { db } = fixture;
    const { store } = await add();
    await veto();
    expect(await fixture.work()).toMatchObject({ written: 59, failed: 1, delayed: 0 });
    const failures = await listFailures(db, 'doc');
    expect(failures).toMatchObject(only7);
    expect(failures[0]?.message).toContain('BEFORE UPDATE trigger');
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 60, fresh: 59, failed: 1 });
    await db.query(`SELECT freshvec.enqueue('doc', '7')`);
    expect(await fixture.work()).toMatchObject({ claimed: 1, written: 0, tokens: 0 });
    await db.exec('DROP TRIGGER veto ON doc');
    expect(await retryFailures(db, 'doc')).toBe(1);
    await fixture.work();
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 60, fresh: 60 });
  });

  test('is set aside where its vector is to go', async () => {
    const { db } = fixture;
    await add();
    await fixture.work();
    await veto();
    await alterSource(db, 'doc', { where: 'id > 10' });
    // Each visit of its page tries once more, for nothing.
    expect((await fixture.work()).failed).toBeGreaterThan(0);
    expect(await db.query('SELECT id FROM doc WHERE id <= 10 AND embedding IS NOT NULL')).toEqual([{ id: 7 }]);
    expect(await listFailures(db, 'doc')).toMatchObject(only7);
  });

  test('is set aside where only its flag is to be lowered', async () => {
    const { db } = fixture;
    await add();
    await fixture.work();
    await db.query('UPDATE doc SET embedding_stale = true WHERE id < 10');
    await veto();
    expect(await fixture.work()).toMatchObject({ written: 0, failed: 1 });
    expect(await db.query('SELECT id FROM doc WHERE embedding_stale')).toEqual([{ id: 7 }]);
    expect(await listFailures(db, 'doc')).toMatchObject(only7);
  });
});

test('failures that were discarded are not tried again with all the others', async () => {
  const { db } = fixture;
  await add();
  await db.exec('ALTER TABLE doc ADD CHECK (n NOT IN (7, 8)) NOT VALID');
  await fixture.work();
  expect(await discardFailures(db, 'doc', ['7'])).toBe(1);
  expect(await retryFailures(db, 'doc')).toBe(1);
  expect(await db.query('SELECT key FROM freshvec.change_key')).toEqual([{ key: '8' }]);
  expect(await retryFailures(db, 'doc', ['7'])).toBe(1);
});
