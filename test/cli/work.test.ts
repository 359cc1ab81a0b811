import { afterEach, beforeEach, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type RunOptions, sql } from './support.js';

let database: TestDatabase;
beforeEach(async () => {
  database = await freshDatabase();
  await on(['schema', 'apply']);
});
afterEach(() => database.drop());

const on = (argv: readonly string[], { env, ...options }: RunOptions = {}) =>
  freshvec(argv, { env: { DATABASE_URL: database.url, ...env }, ...options });

test('work --once says what still waits, whatever the filter of another source leaves', async () => {
  await sql(
    database.url,
    `CREATE TABLE few (id int PRIMARY KEY, body text);
     INSERT INTO few SELECT i, 'text ' || i FROM generate_series(1, 2000) i;
     CREATE TABLE rests (id int PRIMARY KEY, body text)`,
  );
  const added = ['--content', 'body', '--model', 'fake/m@4', '--index', 'none', '--yes'];
  await on(['source', 'add', 'rests', ...added]);
  await on(['work', '--once']);
  await on(['pause', 'rests']);
  await sql(database.url, `INSERT INTO rests SELECT i, 'text ' || i FROM generate_series(1, 9) i`);
  await on(['source', 'add', 'few', '--where', 'id % 20 = 0', ...added]);
  const ran = await on(['work', '--once', '--json']);
  expect(ran.json()).toMatchObject({ written: 100, remaining: 9 });
});

test('up heeds the level of the log', async () => {
  const run = (level: string) => on(['up'], { env: { FRESHVEC_LOG_LEVEL: level }, stop: AbortSignal.timeout(1_500) });
  const [silent, debug] = [await run('silent'), await run('debug')];
  expect([silent.code, silent.stderr]).toEqual([0, '']);
  expect(debug.stderr).toContain('"level":');
});
