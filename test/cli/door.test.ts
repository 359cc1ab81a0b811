import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDoor } from '../../src/cli/door.js';
import { doorPath } from '../../src/cli/door-wire.js';
import type { CliIo, Run } from '../../src/cli/io.js';
import { knock } from '../../src/cli/knock.js';
import { Connection } from '../../src/client/connection.js';
import type { Service } from '../../src/client/serve.js';
import { loadConfig } from '../../src/config/load.js';
import { createLog } from '../../src/observe/log.js';
import { eventually } from '../support/eventually.js';

let home: string;
let dataDir: string;
const services: { stop(): unknown }[] = [];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'freshvec-door-'));
  dataDir = join(home, 'data');
  mkdirSync(dataDir);
});
afterEach(async () => {
  for (const service of services.splice(0)) await service.stop();
  rmSync(home, { recursive: true });
});

/** A door whose commands are the test's; nothing is opened. */
async function open(run: Run): Promise<Service> {
  const config = await loadConfig({ env: {}, cwd: home, flags: { database: { embedded: dataDir } }, file: false });
  const connection = new Connection(config, () => {});
  const door = await openDoor({ connection, dataDir, run, log: createLog('silent') });
  services.push(door);
  return door;
}

function caller(more: Partial<CliIo> = {}): { io: CliIo; written: { out: string; err: string } } {
  const written = { out: '', err: '' };
  const stderr = new Writable({
    write(chunk, _, done) {
      written.err += String(chunk);
      done();
    },
  });
  const stdout = {
    write(text: string) {
      written.out += text;
    },
  };
  const stopSignal = () => new AbortController().signal;
  return {
    io: { stdout, stderr, stdin: Readable.from([]), env: {}, cwd: home, isTTY: false, stopSignal, ...more },
    written,
  };
}

test('a command runs on the other side with its arguments, its directory and none of its environment', async () => {
  const seen: unknown[] = [];
  const long = `\u2028 ä\n${'x'.repeat(200_000)}`;
  await open(async (argv, io) => {
    seen.push(argv, io.cwd, io.env, io.isTTY, io.connection?.config.database);
    io.stdout.write(long);
    io.stderr.write('a line\n');
    return 3;
  });
  const { io, written } = caller({ env: { OPENAI_API_KEY: 'sk-x' } });
  expect(await knock(dataDir, ['search', 'notes', '\u2028 ü'], io)).toBe(3);
  expect(seen).toEqual([['search', 'notes', '\u2028 ü'], home, {}, false, { kind: 'pglite', dataDir }]);
  expect(written).toEqual({ out: long, err: 'a line\n' });
});

test('what is typed goes across, and only once it is asked for', async () => {
  await open(async (_, io) => {
    io.stderr.write('Sure? ');
    for await (const chunk of io.stdin) return String(chunk) === 'yes\n' ? 0 : 1;
    return 2;
  });
  const typing = new Readable({ read() {} });
  const { io, written } = caller({ isTTY: true, stdin: typing });
  const exit = knock(dataDir, [], io);
  await eventually(() => written.err === 'Sure? ' && typing.listenerCount('data') === 1);
  typing.push('yes\n');
  expect(await exit).toBe(0);
  expect(typing.listenerCount('data')).toBe(0);
  expect(await knock(dataDir, [], caller({ isTTY: true }).io)).toBe(2);
});

test('a command that heeds the stop signal is told: by the caller, by its end, and by the end of the owner', async () => {
  let running = 0;
  const door = await open(async (_, io) => {
    const signal = io.stopSignal();
    running += 1;
    io.stdout.write('begun');
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    running -= 1;
    return 1;
  });
  const stop = new AbortController();
  const told = knock(dataDir, [], caller({ stopSignal: () => stop.signal }).io);
  await eventually(() => running === 1);
  stop.abort();
  expect(await told).toBe(1);

  const gone = {
    write() {
      throw new Error('the caller is gone');
    },
  };
  await expect(knock(dataDir, [], caller({ stdout: gone }).io)).rejects.toMatchObject({ code: 'door_lost' });
  await eventually(() => running === 0);

  const last = knock(dataDir, [], caller().io);
  await eventually(() => running === 1);
  await door.stop();
  expect(await last).toBe(1);
  expect(await knock(dataDir, [], caller().io)).toBeUndefined();
});

test('the socket is its own user’s; a stale one is replaced, and it goes with the process', async () => {
  const path = `${dataDir}.sock`;
  writeFileSync(path, 'stale');
  expect(await knock(dataDir, [], caller().io)).toBeUndefined();
  const door = await open(async () => 0);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await knock(dataDir, [], caller().io)).toBe(0);
  await door.stop();
  expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
});

test('a directory whose path is too long for a socket has one in the temporary directory', async () => {
  dataDir = join(home, 'ä'.repeat(60));
  mkdirSync(dataDir);
  expect(doorPath(dataDir)).toMatch(new RegExp(`^${tmpdir()}/freshvec-[0-9a-f]{16}\\.sock$`));
  await open(async () => 2);
  expect(await knock(dataDir, [], caller().io)).toBe(2);
});

test('an owner of another version refuses, and says what to do', async () => {
  const server = createServer((socket) => {
    const message = 'Restart that process.';
    socket.end(`${JSON.stringify({ refused: { code: 'version_mismatch', message } })}\n`);
  }).listen(`${dataDir}.sock`);
  services.push({ stop: () => server.close() });
  await expect(knock(dataDir, [], caller().io)).rejects.toMatchObject({ code: 'version_mismatch' });
});

test('an owner that ends: before the command began nobody opened, after that it is an error', async () => {
  let begun = false;
  const server = createServer((socket) => {
    if (begun) socket.write('{"begun":true}\n');
    socket.end();
  }).listen(`${dataDir}.sock`);
  services.push({ stop: () => server.close() });
  expect(await knock(dataDir, [], caller().io)).toBeUndefined();
  begun = true;
  await expect(knock(dataDir, [], caller().io)).rejects.toMatchObject({ code: 'door_lost' });
});
