import { afterEach, beforeEach, expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { start, workUntil } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { freshvec } from './support.js';

interface Found extends Record<string, unknown> {
  readonly epoch: number;
  readonly space: number;
  readonly coverage?: number;
  readonly results: { key: number; model: string }[];
}

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 60) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
});
afterEach(() => fixture.close());

test('`search --space` looks into the space that a migration fills, and says how full it is', async () => {
  const { id, fromSpaceId, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
  const cli = (...argv: string[]) => freshvec(argv, { env: { DATABASE_URL: fixture.url } });
  // Room is made for the new vectors, and none is there yet: the throttle lets nothing through, from the start.
  await fixture.db.query('UPDATE freshvec.migration SET share = 0');
  await workUntil(fixture, id, ['backfilling'], { throttle: async () => ({ share: 0, signals: [] }) });
  const search = ['search', 'doc', 'text number 7', '-k', '1', '--space', String(toSpaceId)];
  const early = await cli(...search, '--json');
  expect(early.json<Found>()).toMatchObject({ epoch: 1, space: toSpaceId, coverage: expect.any(Number) });
  expect(early.json<Found>().coverage).toBeLessThan(1);
  expect(early.stderr).toContain(`Space ${toSpaceId} is still being filled`);

  await workUntil(fixture, id, ['ready']);
  const full = await cli(...search, '--json');
  expect(full.json<Found>()).toMatchObject({ epoch: 1, space: toSpaceId, coverage: 1, results: [{ key: 7 }] });
  expect(full.json<Found>().results[0]?.model).toContain('fake/b@12');
  expect(full.stderr).toBe('');
  const live = await cli('search', 'doc', 'text number 7', '-k', '1', '--json');
  expect(live.json<Found>()).toMatchObject({ epoch: 1, space: fromSpaceId, results: [{ key: 7 }] });
  expect(live.json<Found>()).not.toHaveProperty('coverage');
  expect((await cli('search', 'doc', 'x', '--space', '4711')).stderr).toContain('has no space 4711. There are:');
  // A command that ends with its answer announces nothing.
  expect(await fixture.db.query('SELECT name FROM freshvec.reader')).toEqual([]);
});

test("the SDK's search names a space too, and a client that searches announces itself until it is closed", async () => {
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
  const client = createClient({ databaseUrl: fixture.url, env: {}, configFile: false });
  const readers = () => fixture.db.query<{ name: string }>('SELECT name FROM freshvec.reader');
  try {
    const found = await client.search('doc', { text: 'text number 7', k: 1, space: toSpaceId });
    expect(found).toMatchObject({ space: toSpaceId, coverage: 1, results: [{ key: 7 }] });
    expect(await readers()).toEqual([]);
    await client.search('doc', { text: 'text number 7', k: 1 });
    const name = expect.stringMatching(`:${process.pid} freshvec$`);
    await eventually(async () => (await readers()).length > 0);
    expect(await readers()).toEqual([{ name }]);
  } finally {
    await client.close();
  }
  expect(await readers()).toEqual([]);
});
