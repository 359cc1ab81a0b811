import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-plan-'));
  database = await freshDatabase();
  await sql(
    database.url,
    `CREATE TABLE notes (id int PRIMARY KEY, body text);
     INSERT INTO notes SELECT i, 'the text of note ' || i FROM generate_series(1, 40) AS i`,
  );
  await on('schema', 'apply');
  await on('source', 'add', 'notes', '--content', 'body', '--model', 'fake/old@8', '--store', 'column', '--yes');
});
afterAll(async () => {
  rmSync(cwd, { recursive: true });
  await database.drop();
});

const on = (...argv: string[]): Promise<Ran> =>
  freshvec(argv, { env: { DATABASE_URL: database.url, OPENAI_API_KEY: 'none' }, cwd });

interface Json {
  readonly plan: {
    readonly rows: number;
    readonly tokens: number;
    readonly facts: readonly { readonly name: string; readonly value: unknown }[];
    readonly statements: readonly { readonly sql: string }[];
    readonly later: readonly { readonly sql: string }[];
    readonly blockers: readonly string[];
  };
}

describe('reembed plan', () => {
  test('shows the SQL first and then what it means, a line for each fact', async () => {
    const ran = await on('reembed', 'plan', 'notes', '--model', 'fake/new@256');
    expect(ran.stderr).toBe('');
    expect(ran.code).toBe(0);
    const [statements = '', summary = ''] = ran.stdout.split('Re-embedding of "notes"\n');
    expect(statements).toMatch(/ADD COLUMN IF NOT EXISTS "embedding_2"[\s\S]*-- Later[\s\S]*CREATE INDEX CONCURRENTLY/);
    for (const line of [
      /^ {2}to +fake\/new@256#\w+: vector\(256\) in column embedding_2, cosine$/m,
      /^ {2}work +40 rows, about [\d,]+ tokens, free$/m,
      /^ {2}long texts +texts over 8,191 tokens get a failure row \(--long-texts refuse\); no row seen has one$/m,
      /^ {2}time +\S+.* {2}unthrottled/m,
      /^ {4}provider +\S+.* texts a second, measured just now/m,
      /^ {2}vectors +\d+\.\d kB {2}vectors of 1032 bytes on the rows/m,
      /^ {2}disk free +unknown {2}SQL cannot tell.*throttle\.diskPath/m,
      /^ {2}HOT updates +unknown {2}no update was counted/m,
      /^ {2}locks +ACCESS EXCLUSIVE on public\.notes .* at most 90 ms a try/m,
      /^ {2}triggers +none/m,
      /^Nothing stands in its way\.$/m,
    ]) {
      expect(summary).toMatch(line);
    }
    // Values stand below one another.
    const columns = summary.split('\n').filter((line) => /^ {2}(vectors|index|disk in all) /.test(line));
    expect(new Set(columns.map((line) => line.search(/ [kM]?B {2}/))).size).toBe(1);
  });

  test('--json has all of it', async () => {
    const { plan } = (
      await on('reembed', 'plan', 'notes', '--model', 'openai/text-embedding-3-small@512', '--json')
    ).json<Json>();
    expect(plan).toMatchObject({ rows: 40, blockers: [], failingRows: 0, longRows: 0, maxTokensPerInput: 8191 });
    expect(plan.tokens).toBeGreaterThan(40);
    expect(plan.facts).toContainEqual(expect.objectContaining({ name: 'providerSeconds', value: null, unit: 's' }));
    expect(plan.facts).toContainEqual(expect.objectContaining({ name: 'partitions', value: 0 }));
    expect(plan.statements.length).toBeGreaterThan(3);
    expect(plan.later.map(({ sql }) => sql).join('\n')).toContain('DROP COLUMN IF EXISTS "embedding"');
  });

  test('names what stands in its way, and changed nothing', async () => {
    const ran = await on('reembed', 'plan', 'notes', '--model', 'fake/new@3072');
    expect(ran.stdout).toMatch(/^Cannot be done: an index over vector takes at most 2000 dimensions/m);
    expect(ran.stdout).not.toContain('Nothing stands in its way');
    const [left] = await sql(
      database.url,
      `SELECT (SELECT count(*)::int FROM freshvec.migration) AS migrations, (SELECT count(*)::int FROM freshvec.space) AS spaces,
         (SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname LIKE 'embedding_2%') AS columns`,
    );
    expect(left).toEqual({ migrations: 0, spaces: 1, columns: 0 });
  });
});
