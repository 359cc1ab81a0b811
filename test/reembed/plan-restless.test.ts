import { afterEach, expect, test } from 'vitest';
import { planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test('vectors do not move onto rows whose text an update changes by itself', async () => {
  fixture = await openFixture();
  const { db, models } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, updated_at timestamptz);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch();
    INSERT INTO doc VALUES (1, 'one', now()), (2, 'two', now())`);
  const content = { columns: ['body', 'updated_at'] };
  await fixture.add({ table: 'doc', content, model: 'fake/a@8', store: 'table', index: 'none' });
  await fixture.work();
  const plan = async (store: 'column' | 'table') => {
    const model = await models.get('fake/b@12');
    return planReembed(db, 'doc', { model: 'fake/b@12', store }, model);
  };
  expect((await plan('table')).notes.join('\n')).not.toMatch(/touch|first updates a few rows/);
  const onRows = await plan('column');
  expect(onRows.blockers).toEqual([]);
  expect(onRows.notes).toContainEqual(expect.stringMatching(/^`start` first updates a few rows/));
  await expect(startReembed(db, onRows)).rejects.toMatchObject({
    code: 'reembed_refused',
    reasons: [expect.stringContaining('its own UPDATE triggers (touch)')],
  });
  expect(await db.query('SELECT FROM freshvec.migration')).toEqual([]);
});

test('a plan fires no trigger of the app', async () => {
  fixture = await openFixture();
  const { db, models } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    CREATE SEQUENCE fired;
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM nextval('fired'); RETURN NEW; END $$;
    CREATE TRIGGER tell BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION tell();
    INSERT INTO doc VALUES (1, 'one'), (2, 'two')`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', store: 'table', index: 'none' });
  await fixture.work();
  const state = async () => {
    // Statistics of this session are told when it asks for them to be.
    const [row] = await db.query<{ fired: number | null; updates: number }>(
      `SELECT pg_sequence_last_value('fired'::regclass) AS fired,
         pg_stat_get_tuples_updated('doc'::regclass) + pg_stat_get_xact_tuples_updated('doc'::regclass) AS updates
       FROM pg_stat_force_next_flush()`,
    );
    return row;
  };
  const planned = await planReembed(db, 'doc', { model: 'fake/b@12', store: 'column' }, await models.get('fake/b@12'));
  expect(await state()).toEqual({ fired: null, updates: 0 });
  await startReembed(db, planned);
  expect(await state()).toMatchObject({ fired: 2 });
});
