import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { eventually } from '../../support/eventually.js';

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Longer than any build: a lock of that age was left by a run that was killed. */
const STALE_LOCK_MS = 180_000;
const LOCK = path.join(ROOT, 'dist', '.build-lock');

let built: Promise<void> | undefined;

/** Compiles src, workers and examples into dist unless that is newer than they are. Test files run side by side: one builds. */
export function ensureBuilt(): Promise<void> {
  built ??= underLock(async () => {
    const sources = await Promise.all(['src', 'workers', 'examples'].map((folder) => newest(path.join(ROOT, folder))));
    if ((await modifiedAt(path.join(ROOT, 'dist/workers/embed.js'))) > Math.max(...sources)) return;
    const tsc = path.join(ROOT, 'node_modules/typescript/bin/tsc');
    const args = [tsc, '-p', path.join(ROOT, 'tsconfig.build.json'), '--pretty', 'false'];
    await promisify(execFile)(process.execPath, args, { cwd: ROOT, timeout: 170_000 }).catch((error: unknown) => {
      const report = error instanceof Error && 'stdout' in error ? String(error.stdout) : '';
      throw new Error(`The workers do not compile:\n${report}`, { cause: error });
    });
  });
  return built;
}

async function underLock(fn: () => Promise<void>): Promise<void> {
  const take = async () => {
    if (Date.now() - (await modifiedAt(LOCK)) > STALE_LOCK_MS) await rm(LOCK, { recursive: true, force: true });
    await mkdir(path.dirname(LOCK), { recursive: true });
    await mkdir(LOCK);
    return true;
  };
  await eventually(take, { timeoutMs: STALE_LOCK_MS, intervalMs: 100, what: 'the build of another test file' });
  try {
    await fn();
  } finally {
    await rm(LOCK, { recursive: true, force: true });
  }
}

async function newest(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = entries.filter((entry) => entry.isFile());
  return Math.max(...(await Promise.all(files.map(({ parentPath, name }) => modifiedAt(path.join(parentPath, name))))));
}

async function modifiedAt(file: string): Promise<number> {
  return stat(file).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
}
