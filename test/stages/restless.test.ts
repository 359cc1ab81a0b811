import { afterEach, expect, test } from 'vitest';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

const definition = { table: 'doc', model: 'fake/p@8', store: 'column', index: 'none' } as const;

test('a row that its own write makes stale is paid for a few times, and set aside', async () => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, updated_at timestamptz);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch()`);
  const { store } = await fixture.add({ ...definition, content: { columns: ['body', 'updated_at'] } });
  await db.query(`INSERT INTO doc VALUES (1, 'one', now()), (2, 'two', now())`);
  expect(await fixture.work()).toMatchObject({ written: 0, delayed: 8, failed: 2 });
  expect(await db.query('SELECT key, code, attempts FROM freshvec.failure ORDER BY key')).toEqual([
    { key: '1', code: 'never_at_rest', attempts: 5 },
    { key: '2', code: 'never_at_rest', attempts: 5 },
  ]);
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 2, failed: 2, vectors: 2 });
  await db.query(`UPDATE doc SET body = 'other' WHERE id = 1`);
  expect(await fixture.work()).toMatchObject({ delayed: 4, failed: 1 });
});

test('a row whose text a trigger makes tidy is embedded once more', async () => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := lower(NEW.body); RETURN NEW; END $$;
    CREATE TRIGGER tidy BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION tidy();
    INSERT INTO doc VALUES (1, 'One'), (2, 'two')`);
  const { store } = await fixture.add({ ...definition, content: { columns: ['body'] } });
  expect(await fixture.work()).toMatchObject({ written: 2, delayed: 1, failed: 0 });
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 2, fresh: 2 });
});
