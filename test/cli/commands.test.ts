import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-cli-'));
  database = await freshDatabase();
  await sql(
    database.url,
    `CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text, lang text DEFAULT 'en');
     INSERT INTO notes (title, body) SELECT 'note ' || i, 'the text of note ' || i FROM generate_series(1, 40) AS i;
     INSERT INTO notes (title, body) VALUES (' ', NULL);
     CREATE TABLE pairs (a int, b text, body text, PRIMARY KEY (a, b));
     INSERT INTO pairs VALUES (1, 'x', 'one'), (2, 'y', 'two'), (3, 'z', 'a [[poison]] text')`,
  );
});
afterAll(async () => {
  rmSync(cwd, { recursive: true });
  await database.drop();
});

const on = (...argv: string[]): Promise<Ran> => freshvec(argv, { env: { DATABASE_URL: database.url }, cwd });
const ADD = ['source', 'add', 'notes', '--content', 'title,body', '--model', 'fake/cli@8'];

async function relations(): Promise<unknown> {
  return sql(
    database.url,
    `SELECT (SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attnum > 0 AND NOT attisdropped) AS columns,
       (SELECT count(*)::int FROM pg_trigger WHERE tgrelid = 'notes'::regclass) AS triggers,
       (SELECT count(*)::int FROM freshvec.source) AS sources`,
  );
}

describe('from an empty database to a search', () => {
  test('without the schema every command says what to run', async () => {
    for (const argv of [
      ['status'],
      ADD,
      ['work', '--once'],
      ['search', 'notes', 'x'],
      ['up'],
      ['failures', 'list'],
      ['enqueue', 'notes', '1'],
    ]) {
      const ran = await on(...argv);
      expect([argv[0], ran.code]).toEqual([argv[0], 1]);
      expect(ran.stderr).toContain('freshvec schema apply');
      expect(ran.stdout).toBe('');
    }
    expect((await on('schema', 'status', '--json')).json()).toMatchObject({ current: 0, compatible: false });
  });

  test('schema apply, twice', async () => {
    const first = await on('schema', 'apply', '--json');
    expect(first.code).toBe(0);
    expect(first.json<{ applied: unknown[] }>().applied.length).toBeGreaterThan(0);
    expect((await on('schema', 'apply', '--json')).json()).toMatchObject({ applied: [] });
    expect((await on('schema', 'status', '--json')).json()).toMatchObject({
      compatible: true,
      queueBackend: 'postgres',
    });
    expect((await on('status', '--json')).json()).toEqual({ sources: [], providers: [] });
  });

  test('source add --dry-run tells everything and changes nothing', async () => {
    const before = await relations();
    const ran = await on(...ADD, '--dry-run');
    expect(ran.code).toBe(0);
    for (const part of [
      'ALTER TABLE',
      'ACCESS EXCLUSIVE on public.notes',
      '40 rows',
      'tokens',
      'free',
      'hnsw',
      'fake/cli@8#',
    ]) {
      expect(ran.stdout).toContain(part);
    }
    const { applied, plan } = (await on(...ADD, '--dry-run', '--json')).json<{
      applied: boolean;
      plan: { rows: number };
    }>();
    expect([applied, plan.rows]).toEqual([false, 40]);
    expect(await relations()).toEqual(before);
  });

  test('source add asks; nobody to ask, or no, changes nothing', async () => {
    const before = await relations();
    const script = await on(...ADD, '--json');
    expect(script.code).toBe(2);
    expect(script.json()).toMatchObject({ error: { code: 'usage', message: expect.stringContaining('--yes') } });
    const env = { DATABASE_URL: database.url };
    const refused = await freshvec(ADD, { env, cwd, typed: 'n' });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('Do this? [y/N]');
    expect(refused.stderr).toContain('Nothing was changed.');
    expect(await relations()).toEqual(before);
  });

  test('source add: a yes does it, and again finds it done', async () => {
    const ran = await freshvec(ADD, { env: { DATABASE_URL: database.url }, cwd, typed: 'y' });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain('Added the source "notes"');
    const again = await on(...ADD, '--json');
    expect([again.code, again.json()]).toMatchObject([0, { applied: false, plan: { already: true } }]);
  });

  test('source add --sql writes a file that makes source add find it done', async () => {
    const add = ['source', 'add', 'pairs', '--content', 'body', '--model', 'fake/cli@8', '--index', 'none'];
    const written = await on(...add, '--sql', 'pairs.sql', '--json');
    expect([written.code, written.json()]).toMatchObject([0, { applied: false, file: 'pairs.sql' }]);
    expect((await on('source', 'list', '--json')).json()).toMatchObject({ sources: [{ name: 'notes' }] });
    await sql(database.url, readFileSync(join(cwd, 'pairs.sql'), 'utf8'));
    const found = await on(...add, '--yes', '--json');
    expect(found.json()).toMatchObject({ applied: false, plan: { already: true } });
    expect((await on('source', 'show', 'pairs', '--json')).json()).toMatchObject({
      source: { name: 'pairs', key: [{ name: 'a' }, { name: 'b' }], live: { epoch: 1 }, spaces: [{ state: 'live' }] },
    });
  });

  test('status before: everything is stale', async () => {
    const { sources } = (await on('status', 'notes', '--json')).json<{ sources: unknown[] }>();
    expect(sources).toEqual([
      {
        source: 'notes',
        ...{ rows: 40, fresh: 0, stale: 40, leased: 0, failed: 0, coverage: 0 },
        oldestStaleSeconds: expect.any(Number),
        live: {
          fingerprint: expect.stringMatching(/^fake\/cli@8#[0-9a-f]{8}$/),
          epoch: 1,
          dimensions: 8,
          store: 'column',
        },
        spaces: [{ id: expect.any(Number), fingerprint: expect.any(String), state: 'live', vectors: 0 }],
      },
    ]);
  });

  test('work --once embeds, builds the index, and exits with 3 because a row failed', async () => {
    const ran = await on('work', '--once', '--json');
    expect(ran.code).toBe(3);
    expect(ran.json()).toMatchObject({ written: 42, failed: 1, delayed: 0, remaining: 0 });
    const indexes = await sql(
      database.url,
      `SELECT indexdef FROM pg_indexes WHERE tablename = 'notes' AND indexdef LIKE '%hnsw%'`,
    );
    expect(indexes).toHaveLength(1);
    const again = await on('work', '--once');
    expect([again.code, again.stdout]).toEqual([0, expect.stringContaining('0 embedded')]);
  });

  test('status after: fresh + stale + failed = rows', async () => {
    const { sources } = (await on('status', '--exact', '--json')).json<{ sources: unknown[] }>();
    expect(sources).toMatchObject([
      {
        source: 'notes',
        rows: 40,
        fresh: 40,
        stale: 0,
        failed: 0,
        coverage: 1,
        oldestStaleSeconds: 0,
        spaces: [{ vectors: 40 }],
      },
      { source: 'pairs', rows: 3, fresh: 2, stale: 0, failed: 1, coverage: 2 / 3 },
    ]);
    expect((await on('status')).stdout).toMatch(/notes\s+40\s+40\s+0\s+0\s+0\s+100\.0 %/);
  });

  test('search finds, filters, and gives the row', async () => {
    const text = 'note 7\n\nthe text of note 7';
    const ran = await on('search', 'notes', text, '-k', '3', '--where', 'lang=en', '--ef-search', '100', '--json');
    const { results, epoch } = ran.json<{ results: Record<string, unknown>[]; epoch: number }>();
    expect([ran.code, epoch, results.length]).toEqual([0, 1, 3]);
    expect(results[0]).toEqual({
      key: 7,
      distance: expect.closeTo(0, 5),
      stale: false,
      model: expect.stringMatching(/^fake\/cli@8#/),
      row: { id: 7, title: 'note 7', body: 'the text of note 7', lang: 'en' },
    });
    const composite = (await on('search', 'pairs', 'two', '-k', '1', '--json')).json<{ results: { key: unknown }[] }>();
    expect(composite.results[0]?.key).toEqual({ a: 2, b: 'y' });
    expect((await on('search', 'notes', 'x', '--where', 'lang=de')).stdout).toBe('Nothing found.\n');
    expect((await on('search', 'notes', text)).stdout).toMatch(/^key\s+distance/);
  });

  test('failures list, retry, discard', async () => {
    const { failures } = (await on('failures', 'list', '--json')).json<{ failures: unknown[] }>();
    expect(failures).toEqual([
      {
        source: 'pairs',
        key: { a: 3, b: 'z' },
        code: 'input_rejected',
        message: expect.stringContaining('rejects'),
        attempts: 1,
        at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      },
    ]);
    expect((await on('failures', 'list', 'notes', '--json')).json()).toEqual({ failures: [] });
    expect((await on('failures', 'retry', 'pairs', '{"a":3,"b":"z"}', '--json')).json()).toEqual({ retried: 1 });
    expect((await on('status', 'pairs', '--json')).json()).toMatchObject({ sources: [{ stale: 1, failed: 0 }] });
    expect((await on('work', '--once')).code).toBe(3);
    expect((await on('failures', 'discard', 'pairs', '--json')).json()).toEqual({ discarded: 1 });
    expect((await on('failures', 'list')).stdout).toBe('No failures.\n');
  });

  test.each([
    [['enqueue', 'notes', 'abc'], 'key_invalid', 'The value given for the key column "id" is no bigint.'],
    [['failures', 'retry', 'notes', 'abc'], 'key_invalid', 'The value given for the key column "id" is no bigint.'],
    [['enqueue', 'pairs', '{"a":1}'], 'key_invalid', /^The key must hold a value for each of: a, b\. .*JSON array/],
    [['enqueue', 'nosuch', '1'], 'source_unknown', /called "nosuch"\. There are: notes, pairs\.$/],
  ])('what is wrong with a key or a name is said: %j', async (argv, code, message) => {
    const ran = await on(...argv, '--json');
    expect(ran.code).toBe(1);
    const said = typeof message === 'string' ? message : expect.stringMatching(message);
    expect(ran.json()).toEqual({ error: { code, message: said } });
  });

  test('enqueue --force pays again', async () => {
    expect((await on('enqueue', 'notes', '1', '2', '--json')).json()).toEqual({ enqueued: 2 });
    expect((await on('work', '--once', '--json')).json()).toMatchObject({ written: 0 });
    await on('enqueue', 'notes', '1', '--force');
    await on('enqueue', 'pairs', '[1,"x"]', '--force');
    expect((await on('work', '--once', '--json')).json()).toMatchObject({ written: 2 });
  });

  test('source alter re-embeds what it made stale; remove keeps the vectors unless told', async () => {
    expect((await on('source', 'alter', 'notes', '--content', 'title')).code).toBe(2);
    expect((await on('source', 'alter', 'notes', '--content', 'title', '--dry-run', '--json')).json()).toMatchObject({
      applied: false,
    });
    expect((await on('source', 'alter', 'notes', '--content', 'title', '--where', 'id <= 10', '--yes')).code).toBe(0);
    expect((await on('work', '--once', '--json')).json()).toMatchObject({ written: 10 });
    expect((await on('status', 'notes', '--json')).json()).toMatchObject({ sources: [{ rows: 10, fresh: 10 }] });
    expect((await on('source', 'remove', 'notes')).code).toBe(2);
    expect((await on('source', 'remove', 'notes', '--yes', '--json')).json()).toEqual({
      removed: 'notes',
      vectorsDropped: false,
      notes: [expect.stringContaining('DROP COLUMN "embedding"')],
    });
    const [left] = await sql<{ vectors: number }>(database.url, 'SELECT count(embedding)::int AS vectors FROM notes');
    expect(left?.vectors).toBe(10);
    const gone = await on('source', 'show', 'notes', '--json');
    expect([gone.code, gone.json()]).toMatchObject([1, { error: { code: 'source_unknown' } }]);
  });

  test('uninstall asks, and then nothing of freshvec is left', async () => {
    expect((await on('uninstall', '--json')).code).toBe(2);
    expect((await freshvec(['uninstall'], { env: { DATABASE_URL: database.url }, cwd, typed: 'no' })).code).toBe(1);
    expect((await on('uninstall', '--yes', '--json')).json()).toEqual({ uninstalled: true, sources: ['pairs'] });
    const left = await sql(
      database.url,
      `SELECT nspname::text AS what FROM pg_namespace WHERE nspname LIKE 'freshvec%'
       UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
       UNION ALL SELECT attname FROM pg_attribute WHERE attrelid = 'pairs'::regclass AND attname LIKE 'embedding%'`,
    );
    expect(left).toEqual([]);
    expect((await on('uninstall', '--yes')).code).toBe(0);
  });
});
