import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { MaintenanceReport } from '../../src/maintenance/list.js';
import type { ReindexReport } from '../../src/maintenance/reindex-source.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-maintain-'));
  writeFileSync(
    join(cwd, 'freshvec.config.json'),
    JSON.stringify({ maintenance: { window: '22:00-06:00', timeZone: 'Europe/Berlin', everyMs: { vacuum: 120_000 } } }),
  );
  database = await freshDatabase();
  await sql(
    database.url,
    `CREATE TABLE notes (id int PRIMARY KEY, body text);
     INSERT INTO notes SELECT i, 'the text of note ' || i FROM generate_series(1, 300) AS i`,
  );
  await on('schema', 'apply');
  await on('source', 'add', 'notes', '--content', 'body', '--model', 'fake/maintain@8', '--yes');
});
afterAll(async () => {
  rmSync(cwd, { recursive: true });
  await database.drop();
});

const on = (...argv: string[]): Promise<Ran> => freshvec(argv, { env: { DATABASE_URL: database.url }, cwd });
const list = async () => (await on('maintain', 'list', '--json')).json<MaintenanceReport>();

test('list: what runs when, before anything ran', async () => {
  const { services, runs, proposals } = await list();
  expect([runs, proposals]).toEqual([[], []]);
  expect(services.find(({ service }) => service === 'vacuum')).toEqual({
    ...{ service: 'vacuum', everyMs: 120_000, window: '22:00-06:00 Europe/Berlin', paused: null, last: null },
  });
  expect(services.find(({ service }) => service === 'index')).toMatchObject({ everyMs: 10_000, window: null });
  const { stdout } = await on('maintain', 'list');
  expect(stdout).toMatch(/vacuum\s+2 min\s+22:00-06:00 Europe\/Berlin\s+never/);
  expect(stdout).toContain('No runs on record.');
});

test('run gives a service a turn, out of its window too', async () => {
  // The first pass is not done: there is no index to build yet.
  expect((await on('maintain', 'run', 'index', '--json')).json()).toEqual({
    ...{ service: 'index', outcome: 'nothing', runs: [] },
  });
  expect((await on('work', '--once')).code).toBe(0);
  await sql(database.url, 'DROP INDEX freshvec_space_1');
  const ran = await on('maintain', 'run', 'index', '--source', 'notes', '--json');
  expect([ran.code, ran.json()]).toMatchObject([0, { outcome: 'done', runs: [{ service: 'index', byPerson: true }] }]);
  expect(await on('maintain', 'run', 'reindex')).toMatchObject({ code: 0, stdout: 'There was nothing to do.\n' });
  const { services, runs } = await list();
  expect(services.find(({ service }) => service === 'reindex')?.last).toMatchObject({ outcome: 'nothing' });
  expect(runs[0]).toMatchObject({ service: 'index', source: 'notes', outcome: 'done', did: 'built freshvec_space_1' });
});

test('pause and resume, of one service and of all', async () => {
  const paused = await on('maintain', 'pause', 'sweep', '--reason', 'an import', '--json');
  expect([paused.code, paused.json()]).toMatchObject([0, { paused: true, service: 'sweep', reason: 'an import' }]);
  const refused = await on('maintain', 'run', 'sweep', '--json');
  expect([refused.code, refused.json()]).toMatchObject([
    1,
    { error: { code: 'maintenance_paused', message: expect.stringMatching(/paused by .+@.+: an import/) } },
  ]);
  expect((await on('maintain', 'list')).stdout).toMatch(/sweep .*paused by .+@.+ since .+: an import/);
  await on('maintain', 'pause');
  const still = await on('maintain', 'resume', 'sweep');
  expect(still.stdout).toBe('sweep runs again. It still rests: all maintenance is paused (by hand).\n');
  expect((await on('maintain', 'run', 'vacuum', '--json')).json()).toMatchObject({
    error: { code: 'maintenance_paused' },
  });
  expect((await on('maintain', 'resume')).stdout).toBe('Maintenance runs again.\n');
  expect((await on('maintain', 'resume', '--json')).json()).toEqual({ service: '*', paused: false });
  expect((await list()).services.every(({ paused }) => paused === null)).toBe(true);
  expect(await on('maintain', 'run', 'sweep')).toMatchObject({ code: 0, stdout: expect.stringContaining('1 spaces') });
  await on('work', '--once');
});

test('a sweep that is asked for twice is told of twice; an unknown source is refused', async () => {
  for (let turn = 0; turn < 2; turn++) {
    expect((await on('maintain', 'run', 'sweep')).stdout).toContain('1 spaces');
    await on('work', '--once');
  }
  const unknown = await on('maintain', 'run', 'sweep', '--source', 'nots', '--json');
  expect([unknown.code, unknown.json()]).toMatchObject([1, { error: { code: 'source_unknown' } }]);
});

test('work --once leaves alone what was told to rest', async () => {
  await sql(database.url, 'DROP INDEX freshvec_space_1');
  const built = async () => (await sql(database.url, `SELECT to_regclass('freshvec_space_1') AS there`))[0]?.there;
  await on('maintain', 'pause', '--reason', 'sale week');
  await on('work', '--once');
  expect(await built()).toBeNull();
  await on('maintain', 'resume');
  await on('work', '--once');
  expect(await built()).not.toBeNull();
});

test('settings are shown, and set only with a yes', async () => {
  await sql(database.url, 'ALTER TABLE notes SET (autovacuum_enabled = off)');
  const sqlText = 'ALTER TABLE "public"."notes" RESET (autovacuum_enabled)';
  expect((await list()).proposals).toMatchObject([{ source: 'notes', relation: 'public.notes', sql: sqlText }]);
  expect((await on('maintain', 'list')).stdout).toContain(`${sqlText};\n    -- autovacuum is off for this table`);
  const unasked = await on('maintain', 'run', 'settings', '--source', 'notes', '--json');
  expect([unasked.code, unasked.json()]).toMatchObject([2, { error: { message: expect.stringContaining('--yes') } }]);
  const no = await freshvec(['maintain', 'run', 'settings'], { env: { DATABASE_URL: database.url }, cwd, typed: 'n' });
  expect([no.code, no.stderr]).toEqual([1, expect.stringContaining(sqlText)]);
  expect((await list()).proposals).toHaveLength(1);
  const yes = await on('maintain', 'run', 'settings', '--source', 'notes', '--yes', '--json');
  expect([yes.code, yes.json()]).toMatchObject([0, { service: 'settings', outcome: 'done', set: [{ sql: sqlText }] }]);
  expect((await list()).proposals).toEqual([]);
  expect((await on('maintain', 'run', 'settings', '--yes')).stdout).toBe('Nothing is proposed.\n');
});

test('reindex: again, with other parameters, without, and back', async () => {
  const again = await on('reindex', 'notes', '--json');
  expect([again.code, again.json()]).toMatchObject([
    0,
    {
      outcome: 'rebuilt',
      runs: [{ outcome: 'done', index: 'freshvec_space_1', did: 'rebuilt: a person asked for it' }],
    },
  ]);
  const swap = await on('reindex', 'notes', '--index', 'hnsw', '--m', '24', '--ef-construction', '128', '--json');
  const { outcome, index, runs } = swap.json<ReindexReport>();
  expect([outcome, index]).toEqual(['swapped', { kind: 'hnsw', m: 24, efConstruction: 128 }]);
  expect(runs[0]?.recallAfter).toBeGreaterThan(0.9);
  expect((await on('reindex', 'notes', '--m', '24')).stdout).toBe('It is like that already.\n');
  expect((await on('source', 'show', 'notes', '--json')).json()).toMatchObject({
    source: { spaces: [{ index: { m: 24, efConstruction: 128 } }] },
  });
  const unasked = await on('reindex', 'notes', '--index', 'none');
  expect([unasked.code, unasked.stderr]).toEqual([2, expect.stringContaining('--yes')]);
  expect((await on('reindex', 'notes', '--index', 'none', '--yes')).stdout).toContain('searches are exact');
  expect(await sql(database.url, `SELECT FROM pg_class WHERE relname LIKE 'freshvec_space%'`)).toHaveLength(0);
  expect((await on('reindex', 'notes', '--index', 'hnsw')).stdout).toContain('The index is built.');
  expect((await on('search', 'notes', 'the text of note 7', '--json')).json()).toMatchObject({
    results: expect.any(Array),
  });
});

test('what cannot be meant is refused', async () => {
  const refusals: [string[], number, string][] = [
    [['maintain', 'run', 'vaccuum'], 2, 'did you mean "vacuum"?'],
    [['maintain', 'run', 'cache', '--source', 'notes'], 2, 'leave --source away'],
    [['maintain', 'run', 'vacuum', '--yes'], 2, '--yes is for'],
    [['maintain', 'run', 'vacuum', '--source', 'nots'], 1, 'There are: notes.'],
    [['maintain', 'pause', 'everything'], 2, 'There are: index,'],
    [['reindex', 'notes', '--index', 'ivfflat'], 2, 'hnsw or none'],
    [['reindex', 'notes', '--m', '70'], 2, 'at least 2 × m (140)'],
    [['reindex', 'nots'], 1, 'There are: notes.'],
  ];
  for (const [argv, code, words] of refusals) {
    const ran = await on(...argv);
    expect([argv, ran.code, ran.stderr]).toEqual([argv, code, expect.stringContaining(words)]);
  }
  const env = { DATABASE_URL: database.url, FRESHVEC_MAINTENANCE_WINDOW: '22-6' };
  const ran = await freshvec(['maintain', 'list'], { env, cwd });
  expect([ran.code, ran.stderr]).toEqual([
    2,
    expect.stringContaining('FRESHVEC_MAINTENANCE_WINDOW: must be like 22:00-06:00'),
  ]);
});
