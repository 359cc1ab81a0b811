import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshDatabase } from '../support/database.js';
import { freshvec, sql } from './support.js';

let cwd: string;
beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-usage-'));
});
afterAll(() => rmSync(cwd, { recursive: true }));

const COMMANDS = [
  ...[
    'schema apply',
    'schema status',
    'schema grant',
    'source add',
    'source list',
    'source show',
    'source alter',
    'source remove',
  ],
  ...['source long-texts'],
  ...['work', 'up', 'status', 'enqueue', 'search', 'embed', 'failures list', 'failures retry', 'failures discard'],
  ...['probe check', 'probe accept', 'config print', 'uninstall'],
  ...['pause', 'resume', 'spend'],
];

/** Every command below this one, groups too, as `--help` lists them. */
async function commandsBelow(path: readonly string[]): Promise<string[][]> {
  const { stdout } = await freshvec([...path, '--help'], { cwd });
  const [, list = ''] = /\nCommands:\n(.*?)\n\n/s.exec(`${stdout}\n\n`) ?? [];
  const listed = [...list.matchAll(/^ {2}([a-z-]+)/gm)];
  const names = listed.flatMap(([, name = '']) => (name === 'help' ? [] : [[...path, name]]));
  return [...names, ...(await Promise.all(names.map(commandsBelow))).flat()];
}

describe('help', () => {
  test('every command there is has an example, a group one of its commands', async () => {
    const commands = (await commandsBelow([])).map((path) => path.join(' '));
    expect(commands).toEqual(expect.arrayContaining([...COMMANDS, 'source', 'reembed cutover', 'maintain list']));
    const without: string[] = [];
    for (const command of commands) {
      const { stdout } = await freshvec([...command.split(' '), '--help'], { cwd });
      if (!new RegExp(`Example:\\n {2}\\$ .*freshvec ${command}`).test(stdout)) without.push(command);
    }
    expect(without).toEqual([]);
  });

  test.each(COMMANDS)('%s --help has an example', async (command) => {
    const ran = await freshvec([...command.split(' '), '--help'], { cwd });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain(`Usage: freshvec ${command}`);
    expect(ran.stdout).toMatch(new RegExp(`Example:\\n {2}\\$ .*freshvec ${command}`));
    expect(ran.stdout).toContain('--json');
  });

  test('--version and --help', async () => {
    expect(await freshvec(['--version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
    expect(await freshvec(['--help'])).toMatchObject({ code: 0, stdout: expect.stringContaining('Example') });
    expect((await freshvec([])).code).toBe(2);
    expect((await freshvec(['source'])).code).toBe(2);
  });
});

describe('usage errors exit with 2 and one sentence', () => {
  const cases: [string[], RegExp][] = [
    [['statsu'], /unknown command 'statsu'.*Did you mean status\?/],
    [['status', '--exect'], /unknown option '--exect'.*--exact/],
    [['source', 'add', 'notes', '--content', 'a'], /required option '--model <spec>'/],
    [['source', 'add', 'notes', '--model', 'static/mini@256'], /--content COLUMN,… or --content-sql/],
    [['source', 'add', 'notes', '--content', 'a,,b', '--model', 'fake/x@8'], /--content.*commas/],
    [['source', 'add', 'n', '--content', 'a', '--model', 'fake/x@8', '--metric', 'dot'], /--metric.*cosine, l2, ip/],
    [['search', 'notes', 'text', '-k', '0'], /-k.*whole number from 1/],
    [['search', 'notes', 'text', '--where', 'lang'], /COLUMN=VALUE/],
    [['embed', 'text', '--model', 'static/maxi@256'], /unknown model "static\/maxi@256".*what exists/s],
    [['source', 'alter', 'notes', '--yes'], /Say what to change/],
    [['source', 'alter', 'notes', '--long-texts', 'cut'], /--long-texts.*refuse, truncate, chunk/],
    [['spend', '--days', '0'], /--days.*whole number from 1/],
    [['pause', 'notes', '--for', 'ever'], /--for.*90s, 15m, 2h or 7d/],
    [['pause', 'notes', '--for', '0s'], /--for.*90s, 15m, 2h or 7d/],
    [['status', '--config', 'nowhere.ts'], /no configuration file nowhere\.ts/],
    [['status', '--embedded=x', '--database-url', 'postgres://h/d'], /choose one/],
  ];
  test.each(cases)('%j', async (argv, message) => {
    const ran = await freshvec(argv, { cwd });
    expect(ran.code).toBe(2);
    expect(ran.stdout).toBe('');
    expect(ran.stderr).toMatch(message);
    expect(ran.stderr).not.toMatch(/\n {4}at /);
    const json = await freshvec([...argv, '--json'], { cwd });
    expect(json.json()).toEqual({ error: { code: expect.any(String), message: expect.stringMatching(message) } });
    expect(json.stderr).toBe('');
  });

  test.each(COMMANDS.filter((c) => !['embed', 'config print'].includes(c)))('%s needs a database', async (command) => {
    const rest: Record<string, string[]> = {
      'source add': ['t', '--content', 'a', '--model', 'fake/x@8', '--yes'],
      'source alter': ['t', '--content', 'a', '--yes'],
      'schema grant': ['web'],
      'source show': ['t'],
      'source remove': ['t', '--yes'],
      enqueue: ['t', '1'],
      search: ['t', 'x'],
      'failures retry': ['t'],
      'failures discard': ['t'],
      'probe check': ['fake/x@8'],
      'probe accept': ['fake/x@8'],
      pause: ['t'],
      resume: ['t'],
      uninstall: ['--yes'],
    };
    const ran = await freshvec([...command.split(' '), ...(rest[command] ?? []), '--json'], { cwd });
    expect(ran.json()).toMatchObject({
      error: { code: 'database_missing', message: expect.stringContaining('--embedded') },
    });
    expect(ran.code).toBe(2);
  });

  test('a misspelt setting', async () => {
    writeFileSync(join(cwd, 'wrong.json'), '{"worker":{"slot":1}}');
    const ran = await freshvec(['config', 'print', '--config', 'wrong.json'], { cwd });
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('did you mean "slots"?') });
  });
});

test('config print masks secrets, and shows what wins', async () => {
  const env = {
    DATABASE_URL: 'postgres://me:hunter2@h/d',
    REDIS_URL: 'redis://:hunter2@r',
    OPENAI_API_KEY: 'sk-hunter2',
  };
  for (const argv of [
    ['config', 'print'],
    ['config', 'print', '--json'],
    ['--json', 'config', 'print', '--redis-url', 'redis://x:hunter2@r'],
  ]) {
    const ran = await freshvec(argv, { env, cwd });
    expect(ran.code).toBe(0);
    expect(ran.stdout + ran.stderr).not.toContain('hunter2');
    expect(ran.json()).toMatchObject({ database: { url: 'postgres://me:***@h/d' }, queue: { backend: 'redis' } });
  }
});

test('a login that fails tells no password', async () => {
  const database = await freshDatabase();
  const url = new URL(database.url);
  url.username = 'nobody_here';
  url.password = 'hunter2';
  const ran = await freshvec(['status', '--json'], { env: { DATABASE_URL: url.href }, cwd });
  expect(ran.code).toBe(1);
  expect(ran.stdout + ran.stderr).not.toContain('hunter2');
  await database.drop();
});

test('embed needs no database', async () => {
  const ran = await freshvec(['embed', 'hello', '--model', 'static/mini@128', '--json'], { cwd });
  const { vector, ...rest } = ran.json<{ vector: number[] }>();
  expect(vector).toHaveLength(128);
  expect(rest).toMatchObject({ dimensions: 128, model: expect.stringMatching(/^static\/mini@128#/) });
});

describe('a provider that would not do is refused before anything is changed', () => {
  test('a wrong key, and wrong dimensions', async () => {
    let status = 401;
    const server = createServer((_, response) => {
      const embedding = Buffer.from(Float32Array.of(1, 2).buffer).toString('base64');
      const body =
        status === 200 ? { data: [{ index: 0, embedding }], usage: { total_tokens: 1 } } : { error: { message: 'no' } };
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const database = await freshDatabase();
    await sql(database.url, 'CREATE TABLE t (id int PRIMARY KEY, body text)');
    const port = (server.address() as AddressInfo).port;
    const env = {
      DATABASE_URL: database.url,
      OPENAI_API_KEY: 'sk-wrong-key',
      OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`,
    };
    await freshvec(['schema', 'apply'], { env, cwd });
    const add = ['source', 'add', 't', '--content', 'body', '--model', 'openai/some-model@3', '--yes', '--json'];

    const unauthorised = await freshvec(add, { env, cwd });
    expect([unauthorised.code, unauthorised.json()]).toMatchObject([1, { error: { code: 'embed_unauthorised' } }]);
    status = 200;
    const mismatch = await freshvec(add, { env, cwd });
    expect(mismatch.json()).toMatchObject({ error: { message: expect.stringMatching(/2 dimensions/) } });
    expect(await sql(database.url, 'SELECT FROM freshvec.source')).toHaveLength(0);

    server.close();
    await database.drop();
  });
});

test('a database that does not answer is told of in a sentence', async () => {
  const ran = await freshvec(['status', '--json'], {
    env: { DATABASE_URL: 'postgres://me:hunter2@127.0.0.1:1/d' },
    cwd,
  });
  expect(ran.code).toBe(1);
  expect(ran.json()).toMatchObject({
    error: { code: 'database_unreachable', message: expect.stringMatching(/127\.0\.0\.1:1\/d/) },
  });
  expect(ran.stdout + ran.stderr).not.toContain('hunter2');
});
