import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

interface Answer {
  readonly source: string;
  readonly paused: boolean;
  readonly reason: string | null;
  readonly until: string | null;
}

let database: TestDatabase;
beforeAll(async () => {
  database = await freshDatabase();
  await sql(
    database.url,
    `CREATE TABLE notes (id int PRIMARY KEY, body text);
     INSERT INTO notes SELECT i, 'the text of note ' || i FROM generate_series(1, 12) AS i`,
  );
  await on('schema', 'apply');
  await on('source', 'add', 'notes', '--content', 'body', '--model', 'fake/pause@8', '--index', 'none', '--yes');
});
afterAll(() => database.drop());

const on = (...argv: string[]): Promise<Ran> => freshvec(argv, { env: { DATABASE_URL: database.url } });
const json = async (...argv: string[]) => (await on(...argv, '--json')).json<Answer>();

test('pause, work, resume, work', async () => {
  const paused = await on('pause', 'notes', '--reason', 'a long import');
  expect(paused).toMatchObject({ code: 0, stdout: 'notes is paused: a long import (until it is resumed).\n' });

  const left = await on('work', '--once', '--json');
  expect([left.code, left.json()]).toMatchObject([0, { written: 0, remaining: 12 }]);
  const { stdout } = await on('status');
  expect(stdout).toMatch(/notes \(paused\)\s+12\s+0\s+12\s/);
  expect(stdout).toContain('notes is paused: a long import (until it is resumed)');
  expect((await on('status', '--json')).json()).toMatchObject({
    sources: [{ stale: 12, leased: 0, paused: { kind: 'person', reason: 'a long import', until: null } }],
  });

  expect(await on('resume', 'notes')).toMatchObject({ code: 0, stdout: 'notes is worked on again.\n' });
  expect((await on('work', '--once', '--json')).json()).toMatchObject({ written: 12, remaining: 0 });
  const after = await on('status');
  expect(after.stdout).not.toContain('paused');
  const { sources } = (await on('status', '--json')).json<{ sources: object[] }>();
  expect(sources[0]).not.toHaveProperty('paused');
});

test('both may be said again', async () => {
  const forever = { source: 'notes', paused: true, reason: 'by hand', until: null };
  expect(await json('pause', 'notes')).toEqual(forever);
  expect(await json('pause', 'notes')).toEqual(forever);
  expect(await json('pause', 'notes', '--reason', 'another')).toEqual({ ...forever, reason: 'another' });
  const gone = { source: 'notes', paused: false, reason: null, until: null };
  expect(await json('resume', 'notes')).toEqual(gone);
  expect(await json('resume', 'notes')).toEqual(gone);
  expect(await on('resume', 'notes')).toMatchObject({ code: 0, stdout: 'notes was not paused.\n' });
});

test.each([
  ['90s', 90],
  ['15m', 900],
  ['2h', 7200],
  ['1.5h', 5400],
  ['7d', 604_800],
])('--for %s', async (time, seconds) => {
  const before = Date.now();
  const { until } = await json('pause', 'notes', '--for', time);
  // The server's clock: this machine's.
  expect(Math.abs(Date.parse(until ?? '') - before - seconds * 1000)).toBeLessThan(5_000);
  expect((await on('status')).stdout).toContain(`notes is paused: by hand (until ${until})`);
  await on('resume', 'notes');
});

test('resume ends the pauses of the spend cap and the provider too', async () => {
  await sql(
    database.url,
    `INSERT INTO freshvec.pause (source_id, kind, reason, until)
     SELECT id, kind, 'not by hand', now() + interval '1 h' FROM freshvec.source, unnest(ARRAY['spend', 'provider']) kind`,
  );
  expect((await on('status', '--json')).json()).toMatchObject({ sources: [{ paused: { reason: 'not by hand' } }] });
  expect((await on('resume', 'notes')).stdout).toContain('worked on again');
  expect(await sql(database.url, 'SELECT FROM freshvec.pause')).toHaveLength(0);
});

test('an unknown source is told from those that there are; a time that cannot be meant is refused', async () => {
  for (const command of ['pause', 'resume']) {
    const ran = await on(command, 'nots', '--json');
    expect([ran.code, ran.json()]).toMatchObject([
      1,
      { error: { code: 'source_unknown', message: 'There is no source "nots". There are: notes.' } },
    ]);
  }
  for (const time of ['0.1s', '100000d']) {
    const ran = await on('pause', 'notes', '--for', time, '--json');
    expect([ran.code, ran.json()]).toMatchObject([2, { error: { code: 'pause_request_invalid' } }]);
  }
  expect(await sql(database.url, 'SELECT FROM freshvec.pause')).toHaveLength(0);
});
