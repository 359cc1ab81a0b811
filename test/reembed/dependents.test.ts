import { afterEach, beforeEach, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import type { StartOptions } from '../../src/reembed/definition.js';
import { takeOver } from '../../src/reembed/transition.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { deps, start, workUntil } from './support.js';

const ROWS = 30;

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, ${ROWS}) i;
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`);
});
afterEach(() => fixture.close());

async function soaking(store: StoreKind, options: StartOptions = {}): Promise<number> {
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none', store });
  await fixture.work();
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12', store: 'column' }, options);
  await workUntil(fixture, id, ['ready']);
  await control.cutover(fixture.db, 'doc');
  return id;
}

const STANDING = [
  {
    what: 'a view',
    store: 'column',
    make: 'CREATE VIEW near AS SELECT id, embedding FROM doc',
    drop: 'DROP VIEW near',
    said: 'the view near',
  },
  {
    what: 'a trigger',
    store: 'column',
    make: 'CREATE TRIGGER told AFTER UPDATE OF embedding ON doc FOR EACH ROW EXECUTE FUNCTION audit()',
    drop: 'DROP TRIGGER told ON doc',
    said: 'trigger told on table doc',
  },
  {
    what: 'a generated column',
    store: 'column',
    make: 'ALTER TABLE doc ADD there boolean GENERATED ALWAYS AS (embedding IS NOT NULL) STORED',
    drop: 'ALTER TABLE doc DROP COLUMN there',
    said: 'there',
  },
  {
    what: 'a view of the table of vectors',
    store: 'table',
    make: 'CREATE VIEW near AS SELECT * FROM freshvec.vector_1',
    drop: 'DROP VIEW near',
    said: 'the view near',
  },
] as const;

test.each(STANDING)('`complete` takes no vector away that $what stands on', async ({ store, make, drop, said }) => {
  const { db } = fixture;
  const id = await soaking(store);
  // What goes with the columns by itself is in nobody's way.
  if (store === 'column') await db.exec('ALTER TABLE doc ADD CHECK (vector_dims(embedding) = 8)');
  await db.exec(make);
  await expect(control.complete(db, 'doc')).rejects.toMatchObject({
    code: 'migration_refused',
    message: expect.stringMatching(new RegExp(`${said}.* stands on the old vectors: drop or change that first`)),
  });
  expect(await getMigration(db, id)).toMatchObject({ state: 'soaking' });
  const old =
    store === 'column' ? 'SELECT count(embedding) AS n FROM doc' : 'SELECT count(*) AS n FROM freshvec.vector_1';
  expect(await db.query(old)).toEqual([{ n: ROWS }]);
  await db.exec(drop);
  await control.complete(db, 'doc');
  expect(await workUntil(fixture, id, ['done'])).toMatchObject({ state: 'done' });
});

test('nor does the end of the time to retain them', async () => {
  const { db } = fixture;
  const id = await soaking('column', { retainSeconds: 0 });
  await db.exec('CREATE VIEW near AS SELECT id, embedding FROM doc');
  const migration = await takeOver(db, id, '00000000-0000-4000-8000-000000000001', true);
  if (!migration) throw new Error('nothing to do');
  await advance(deps(db), migration, new AbortController().signal);
  expect(await getMigration(db, id)).toMatchObject({
    state: 'soaking',
    reason: 'the time to retain is over; the view near stands on the old vectors: drop or change that first',
  });
});
