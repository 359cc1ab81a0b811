import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.drop());

const on = (...argv: string[]): Promise<Ran> => freshvec(argv, { env: { DATABASE_URL: database.url } });

test('check and accept', async () => {
  expect((await on('probe', 'check', 'fake/m@8')).stderr).toContain('freshvec schema apply');
  await on('schema', 'apply');
  const model = expect.stringMatching(/^fake\/m@8#[0-9a-f]{8}$/);

  expect((await on('probe', 'check', 'fake/m@8', '--json')).json()).toEqual({ model, result: 'first' });
  expect((await on('probe', 'check', 'fake/m@8', '--json')).json()).toEqual({ model, result: 'same' });
  expect((await on('probe', 'check', 'fake/m@8')).stdout).toMatch(/^fake\/m@8#\w+: the same\.\n$/);

  // As if other weights had answered first.
  await sql(database.url, 'UPDATE freshvec.probe SET vectors = ARRAY[vectors[2], vectors[3], vectors[1]]');
  const changed = await on('probe', 'check', 'fake/m@8', '--json');
  expect([changed.code, changed.json()]).toEqual([
    1,
    { error: { code: 'embed_model_changed', message: expect.stringContaining('`freshvec probe accept fake/m@8`') } },
  ]);

  expect((await on('probe', 'accept', 'fake/m@8', '--json')).json()).toEqual({ model, accepted: true });
  expect((await on('probe', 'accept', 'fake/m@8')).stdout).toContain('nothing was on record');
  expect((await on('probe', 'check', 'fake/m@8')).stdout).toContain('from now on');
  expect(await on('probe', 'check', 'fake/m')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('unknown model'),
  });
});
