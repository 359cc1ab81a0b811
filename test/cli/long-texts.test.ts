import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, sql } from './support.js';

let database: TestDatabase;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-long-'));
  database = await freshDatabase();
  // The fake model takes 8,191 tokens, by the estimate of 4 bytes each.
  await sql(
    database.url,
    `CREATE TABLE notes (id int PRIMARY KEY, body text);
     INSERT INTO notes VALUES (1, 'short'), (2, repeat('a sentence. ', 10000)), (3, repeat('another one. ', 5000))`,
  );
});
afterAll(async () => {
  rmSync(cwd, { recursive: true });
  await database.drop();
});

const on = (...argv: string[]) => freshvec(argv, { env: { DATABASE_URL: database.url }, cwd });

test('from a refusal to a choice, and to another', async () => {
  expect((await on('schema', 'apply')).code).toBe(0);
  const add = ['source', 'add', 'notes', '--content', 'body', '--model', 'fake/cli@8', '--index', 'none'];
  const shown = await on(...add, '--dry-run');
  expect(shown.stdout).toContain(
    'long     texts over 8,191 tokens get a failure row (--long-texts refuse); about 2 rows have one',
  );
  expect((await on(...add, '--long-texts', 'chunk', '--dry-run')).stdout).toContain('are embedded in pieces');
  expect((await on(...add, '--yes')).code).toBe(0);
  expect((await on('source', 'show', 'notes')).stdout).toMatch(/long texts +refuse/);
  await on('work', '--once');
  const failures = await on('failures', 'list', 'notes', '--json');
  expect(failures.json()).toMatchObject({
    failures: [
      { key: 2, code: 'text_too_long', message: expect.stringContaining('source alter notes --long-texts truncate') },
      { key: 3, code: 'text_too_long' },
    ],
  });
  expect((await on('source', 'long-texts')).stdout).toBe('No vector is of a text that was too long.\n');

  const dry = await on('source', 'alter', 'notes', '--long-texts', 'truncate', '--dry-run');
  expect(dry.stdout).toContain('has texts that were too long tried again');
  expect((await on('source', 'alter', 'notes', '--long-texts', 'truncate', '--yes')).code).toBe(0);
  await on('work', '--once');
  expect((await on('failures', 'list')).stdout).toBe('No failures.\n');
  const status = await on('status');
  expect(status.stdout).toContain('notes has texts that are too long for its model: 2 embedded by their beginning');
  expect((await on('status', '--json')).json()).toMatchObject({
    sources: [{ fresh: 3, failed: 0, longTexts: { truncated: 2, chunked: 0 } }],
  });
  const listed = await on('source', 'long-texts', 'notes');
  expect(listed.stdout).toMatch(/notes +2 +truncated +30,000 +8,191 +1 /);

  await on('source', 'alter', 'notes', '--long-texts', 'chunk', '--yes');
  await on('work', '--once');
  expect((await on('source', 'long-texts', '--json')).json()).toMatchObject({
    longTexts: [
      { source: 'notes', key: 2, how: 'chunk', tokens: 30_000, maxTokens: 8191, pieces: 4 },
      { source: 'notes', key: 3, how: 'chunk', tokens: 16_250, maxTokens: 8191, pieces: 2 },
    ],
  });
  expect((await on('source', 'alter', 'notes', '--long-texts', 'chunk', '--yes')).stdout).toBe('Nothing changes.\n');
  expect((await on('source', 'long-texts', 'nots')).code).toBe(1);
});
