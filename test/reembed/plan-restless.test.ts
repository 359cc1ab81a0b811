import { afterEach, expect, test } from 'vitest';
import { planReembed } from '../../src/reembed/plan.js';
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
  const blockers = async (store: 'column' | 'table') => {
    const model = await models.get('fake/b@12');
    return (await planReembed(db, 'doc', { model: 'fake/b@12', store }, model)).blockers;
  };
  expect(await blockers('table')).toEqual([]);
  expect(await blockers('column')).toEqual([expect.stringContaining('its own UPDATE triggers (touch)')]);
});
