import { afterEach, beforeEach, expect, test } from 'vitest';
import { factOf, planReembed } from '../../src/reembed/plan.js';
import { readUpdateTriggers } from '../../src/source/hazards.js';
import { planSource } from '../../src/source/index.js';
import { start, workUntil } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE audit (name text);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO audit VALUES (TG_NAME); RETURN NULL; END $$;
    CREATE TABLE doc (id int PRIMARY KEY, body text, kind text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 20) i`);
});
afterEach(() => fixture.close());

const definition = { table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' } as const;
const trigger = (name: string, event: string) =>
  fixture.db.exec(`CREATE TRIGGER ${name} AFTER ${event} ON doc FOR EACH ROW EXECUTE FUNCTION audit()`);

test('a trigger of columns that freshvec does not set is no hazard, and old vectors are cleared', async () => {
  const { db, models } = fixture;
  await trigger('on_body', 'UPDATE OF body');
  expect(await planSource(db, definition, await models.get('fake/a@8'))).toMatchObject({ proposedStore: 'column' });
  const { source } = await fixture.add(definition);
  await fixture.work();
  const planned = await planReembed(db, 'doc', { model: 'fake/b@12' }, await models.get('fake/b@12'));
  expect(factOf(planned, 'triggers')).toBe('none');
  expect(planned.later.map(({ sql }) => sql).join('\n')).toMatch(/SET "?embedding"? = NULL/);
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
  expect(await db.query('SELECT FROM audit')).toEqual([]);
  await db.query(`UPDATE doc SET body = 'other' WHERE id = 1`);
  expect(await db.query('SELECT name FROM audit')).toEqual([{ name: 'on_body' }]);
  expect(await readUpdateTriggers(db, source.relation.oid)).toEqual([]);
});

test('what PostgreSQL fires at a write of vectors is a hazard, and nothing else', async () => {
  const { db } = fixture;
  // Before freshvec's, as an app with vectors of its own may have them.
  await db.exec(
    `ALTER TABLE doc ADD made boolean GENERATED ALWAYS AS (kind IS NOT NULL) STORED, ADD embedding vector(8)`,
  );
  await trigger('a_all', 'UPDATE');
  await trigger('b_body', 'UPDATE OF kind, body');
  await trigger('c_vector', 'UPDATE OF body, embedding');
  await trigger('d_generated', 'UPDATE OF made');
  await trigger('e_replica', 'UPDATE');
  await trigger('f_off', 'UPDATE');
  await db.exec('ALTER TABLE doc ENABLE REPLICA TRIGGER e_replica, DISABLE TRIGGER f_off');
  const [table] = await db.query<{ oid: number }>(`SELECT 'doc'::regclass::oid::int8 AS oid`);
  const oid = table?.oid ?? 0;
  expect(await readUpdateTriggers(db, oid)).toEqual(['a_all', 'd_generated']);
  const told = await readUpdateTriggers(db, oid, ['embedding']);
  const { notes } = await planSource(db, { ...definition, store: 'column' }, await fixture.models.get('fake/a@8'));
  expect(notes.join('\n')).toContain('own triggers (a_all, c_vector, d_generated)');
  await fixture.add({ ...definition, store: 'column' });
  await fixture.work();
  const fired = await db.query<{ name: string }>('SELECT DISTINCT name FROM audit ORDER BY 1');
  expect(fired.map(({ name }) => name)).toEqual(told);
  expect(await readUpdateTriggers(db, oid)).toEqual(told);
});
