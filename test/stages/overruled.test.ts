import { afterEach, expect, test } from 'vitest';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test.each(['column', 'table'] as const)(
  'a row whose key and text the app changes after our trigger has looked at it becomes fresh (%s)',
  async (kind) => {
    fixture = await openFixture();
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, n int);
      CREATE FUNCTION last_word() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.n > OLD.n THEN NEW.id := NEW.id + 100; NEW.body := 'version ' || NEW.n; END IF;
        RETURN NEW; END $$;
      CREATE TRIGGER zzzz_last BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION last_word();
      INSERT INTO doc SELECT i, 'text ' || i, 0 FROM generate_series(1, 10) i`);
    const { store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/p@8',
      store: kind,
      index: 'none',
    });
    await fixture.work();
    await db.query('UPDATE doc SET n = 1 WHERE id <= 5');
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 10, fresh: 5 });
    await fixture.work();
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 10, fresh: 10, vectors: 10 });
    // The worker's own UPDATE is no change of the app's.
    expect((await fixture.work()).written).toBe(0);
    expect(await db.query('SELECT FROM freshvec.change_key')).toEqual([]);
  },
);
