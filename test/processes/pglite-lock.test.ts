import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPglite } from '../../src/db/pglite.js';
import { copyEmbedded } from '../support/embedded.js';

let home: string;
let dataDir: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'freshvec-pglite-'));
  dataDir = join(home, 'data');
});
afterEach(async () => {
  for (const child of children.splice(0)) await end(child, 'SIGKILL');
  rmSync(home, { recursive: true });
});

async function openInChild(): Promise<{ child: ChildProcess; said: unknown }> {
  const script = fileURLToPath(new URL('./openInChild.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) return { child, said: JSON.parse(line) };
  throw new Error('the child said nothing');
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
}

test('a directory that another process has open is refused, with its pid, and nothing is lost', async () => {
  const { child, said } = await openInChild();
  expect(said).toEqual({ opened: true });
  const refused = await openPglite({ dataDir }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: 'embedded_in_use' });
  expect(String(refused)).toContain(`process ${child.pid}`);
  await end(child, 'SIGTERM');
  expect(existsSync(`${dataDir}.lock`)).toBe(false);
  const db = await openPglite({ dataDir });
  expect(await db.query('SELECT id FROM note')).toEqual([{ id: 1 }]);
  await db.close();
});

test('a directory that this process has open is refused to another and to itself, also by a symbolic link', async () => {
  copyEmbedded(dataDir);
  const db = await openPglite({ dataDir });
  const { said } = await openInChild();
  expect(said).toMatchObject({ code: 'embedded_in_use', message: expect.stringContaining(`process ${process.pid}`) });
  await expect(openPglite({ dataDir })).rejects.toMatchObject({ code: 'embedded_in_use' });
  symlinkSync(dataDir, join(home, 'link'));
  await expect(openPglite({ dataDir: join(home, 'link') })).rejects.toMatchObject({ code: 'embedded_in_use' });
  await db.close();
});

test('the lock of a killed process is taken over, and what it committed is there', async () => {
  copyEmbedded(dataDir);
  const { child } = await openInChild();
  await end(child, 'SIGKILL');
  expect(existsSync(`${dataDir}.lock`)).toBe(true);
  const db = await openPglite({ dataDir });
  expect(await db.query('SELECT id FROM note')).toEqual([{ id: 1 }]);
  await db.close();
  expect(existsSync(`${dataDir}.lock`)).toBe(false);
});

test('a lock of an earlier process with the same pid is taken over, one of another host is not', async () => {
  copyEmbedded(dataDir);
  writeFileSync(`${dataDir}.lock`, JSON.stringify({ pid: process.pid, host: hostname(), born: 'an earlier boot:1' }));
  await (await openPglite({ dataDir })).close();
  writeFileSync(`${dataDir}.lock`, JSON.stringify({ pid: 1, host: 'elsewhere', born: '' }));
  await expect(openPglite({ dataDir })).rejects.toThrow(/process 1 on elsewhere/);
});
