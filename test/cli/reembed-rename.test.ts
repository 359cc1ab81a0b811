import { afterEach, beforeEach, expect, test } from 'vitest';
import { start, workUntil } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { freshvec } from './support.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 10) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
  const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
});
afterEach(() => fixture.close());

test('`reembed cutover --rename` says its caveat, asks, and `rollback` changes the names back', async () => {
  const cutover = (argv: string[], typed?: string) =>
    freshvec(['reembed', 'cutover', 'doc', ...argv], { env: { DATABASE_URL: fixture.url }, ...(typed && { typed }) });
  const dimensions = async () => {
    const [row] = await fixture.db.query<{ type: string }>(
      `SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attname = 'embedding'`,
    );
    return row?.type;
  };
  expect(await cutover(['--yes'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--yes goes with --rename'),
  });
  expect(await cutover(['--rename'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('say --yes to rename'),
  });
  const no = await cutover(['--rename'], 'n');
  expect(no).toMatchObject({ code: 1, stderr: expect.stringContaining('Nothing was changed') });
  expect(no.stderr).toContain('19 of 9,670');
  expect(await dimensions()).toBe('vector(8)');

  const yes = await cutover(['--rename', '--yes', '--json']);
  expect(yes.stderr).toContain('not with the process that embeds a query');
  expect(yes.json()).toMatchObject({ migration: { state: 'soaking', renamed: true } });
  expect(await dimensions()).toBe('vector(12)');
  const back = await freshvec(['reembed', 'rollback', 'doc', '--json'], { env: { DATABASE_URL: fixture.url } });
  expect(back.json()).toMatchObject({ migration: { state: 'rolled_back', renamed: false } });
  expect(await dimensions()).toBe('vector(8)');
  expect((await cutover(['--rename'], 'y')).code).toBe(0);
  expect(await dimensions()).toBe('vector(12)');
});
