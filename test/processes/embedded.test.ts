import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { freshvec, type Ran } from '../cli/support.js';
import { copyEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';

const CHILD = fileURLToPath(new URL('child.mjs', import.meta.url));

let home: string;
let dataDir: string;
let owner: ChildProcess;
const children: ChildProcess[] = [];
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'freshvec-embedded-'));
  dataDir = join(home, 'data');
  copyEmbedded(dataDir);
  const client = createClient({ embedded: dataDir, env: {}, configFile: false });
  await client.schema.apply();
  const db = await client.database();
  await db.exec(`CREATE TABLE notes (id int PRIMARY KEY, body text);
    INSERT INTO notes SELECT i, 'the text of note ' || i FROM generate_series(1, 30) AS i`);
  await client.sources.add({ table: 'notes', content: { columns: ['body'] }, model: 'fake/door@8' });
  await client.close();
  owner = await startUp();
});
afterAll(async () => {
  for (const child of children) await end(child, 'SIGKILL');
  rmSync(home, { recursive: true });
});

function start(...argv: string[]): ChildProcess {
  const args = [CHILD, 'src/cli/main.ts', ...argv, `--embedded=${dataDir}`];
  const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH }, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  return child;
}

/** `up`, once it works. */
async function startUp(): Promise<ChildProcess> {
  const child = start('up', '--json');
  let log = '';
  child.stderr?.on('data', (chunk) => {
    log += chunk;
  });
  const started = () => {
    if (child.exitCode !== null) throw new Error(log);
    return log.includes('"started"');
  };
  await eventually(started, { timeoutMs: 40_000, what: 'the start of `up`' });
  return child;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exit = once(child, 'exit');
  child.kill(signal);
  return (await exit)[0];
}

/** One command in a process of its own; what is on stdout must be one JSON document. */
async function inProcess(...argv: string[]): Promise<unknown> {
  const child = start(...argv, '--json');
  let out = '';
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, ...(JSON.parse(out) as object) };
}

const here = (argv: string[], typed?: string): Promise<Ran> =>
  freshvec([...argv, `--embedded=${dataDir}`], { cwd: home, ...(typed === undefined ? {} : { typed }) });
const fresh = async () => (await here(['status', '--json'])).json<{ sources: { fresh: number }[] }>().sources[0]?.fresh;

describe('while `up --embedded` runs', () => {
  test('search, status and enqueue of other processes, at once', async () => {
    await eventually(async () => (await fresh()) === 30, { timeoutMs: 30_000, what: 'the first pass' });
    const said = await Promise.all([
      inProcess('search', 'notes', 'the text of note 7', '-k', '1'),
      inProcess('status', 'notes'),
      inProcess('enqueue', 'notes', '1', '2'),
      inProcess('failures', 'list'),
    ]);
    expect(said).toMatchObject([
      { code: 0, results: [{ key: 7, row: { body: 'the text of note 7' } }] },
      { code: 0, sources: [{ source: 'notes', rows: 30 }] },
      { code: 0, enqueued: 2 },
      { code: 0, failures: [] },
    ]);
    expect(owner.exitCode).toBeNull();
  });

  test('work --once, schema status and source list too; errors and exit codes come back', async () => {
    expect((await here(['work', '--once', '--json'])).json()).toMatchObject({ failed: 0, remaining: 0 });
    expect((await here(['schema', 'status', '--json'])).json()).toMatchObject({ compatible: true });
    expect((await here(['source', 'list'])).stdout).toMatch(/notes\s+public\.notes/);
    const unknown = await here(['search', 'nothing', 'x', '--json']);
    expect([unknown.code, unknown.json()]).toMatchObject([1, { error: { code: 'source_unknown' } }]);
    expect(await here(['search', 'nothing', 'x'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^freshvec: /),
    });
  });

  test('a question is asked across; where nobody is there, --yes is needed', async () => {
    const remove = ['source', 'remove', 'notes'];
    expect(await here(remove)).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
    const refused = await here(remove, 'n');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('[y/N] Nothing was changed.') });
    expect(await fresh()).toBe(30);
  });

  test.each([['up'], ['work'], ['uninstall', '--yes']])('%s %s is refused with the pid', async (...argv) => {
    const ran = await here([...argv, '--json']);
    expect([ran.code, ran.json()]).toEqual([
      1,
      { error: { code: 'embedded_in_use', message: expect.stringContaining(`process ${owner.pid}`) } },
    ]);
  });

  test('the SDK of another process is refused', async () => {
    const client = createClient({ embedded: dataDir, env: {}, configFile: false });
    await expect(client.status()).rejects.toMatchObject({ code: 'embedded_in_use' });
    await client.close();
  });

  test('a caller of another version is refused', async () => {
    const socket = connect(`${dataDir}.sock`);
    socket.write('{"version":"0.0.1"}\n');
    const [line] = await once(createInterface({ input: socket }), 'line');
    const { refused } = JSON.parse(String(line));
    expect(refused.code).toBe('version_mismatch');
    expect(refused.message).toContain(`process ${owner.pid}`);
    socket.destroy();
  });
});

test('the owner is killed: the next command opens the directory itself, the next owner has a door again', async () => {
  await end(owner, 'SIGKILL');
  expect(existsSync(`${dataDir}.sock`)).toBe(true);
  expect(await inProcess('status')).toMatchObject({ code: 0, sources: [{ fresh: 30 }] });
  owner = await startUp();
  expect((await here(['enqueue', 'notes', '3', '--json'])).json()).toEqual({ enqueued: 1 });
});

test('a command that comes while the owner starts or ends is done all the same', async () => {
  const ended = end(owner, 'SIGTERM');
  const early = here(['enqueue', 'notes', '4', '--json']);
  expect((await early).json()).toEqual({ enqueued: 1 });
  expect(await ended).toBe(0);
  expect(existsSync(`${dataDir}.sock`)).toBe(false);
  expect(existsSync(`${dataDir}.lock`)).toBe(false);
  const next = start('up', '--json');
  await eventually(() => existsSync(`${dataDir}.lock`), { timeoutMs: 20_000, what: 'the lock' });
  expect((await here(['enqueue', 'notes', '5', '--json'])).json()).toEqual({ enqueued: 1 });
  expect(await end(next, 'SIGTERM')).toBe(0);
});

test('two short commands at once take their turns', async () => {
  expect(await Promise.all([inProcess('status'), inProcess('enqueue', 'notes', '6')])).toMatchObject([
    { code: 0, sources: [{ source: 'notes' }] },
    { code: 0, enqueued: 1 },
  ]);
});

test('uninstall, once nobody has it open', async () => {
  expect((await here(['uninstall', '--yes', '--json'])).json()).toEqual({ uninstalled: true, sources: ['notes'] });
});
