import { mkdirSync, readFileSync, rmdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { FreshvecError } from './errors.js';

/**
 * Holds a directory for one process: `<directory>.lock`, created with O_EXCL. A lock whose process is dead is taken
 * over. The process is told from a later one with the same pid (pid 1 in every container) by its start time, and one
 * on another host (a shared volume), where no pid can be asked for, by a heartbeat on the file.
 */
export interface LockFile {
  release(): void;
}

interface Owner {
  readonly pid: number;
  readonly host: string;
  /** Boot and start time of the process; empty where the system does not tell. */
  readonly born: string;
}

const HEARTBEAT_MS = 10_000;
const FOREIGN_STALE_MS = 90_000;
const TAKEOVER_STALE_MS = 10_000;

export function lockDirectory(directory: string): LockFile {
  const path = `${directory}.lock`;
  const me: Owner = { pid: process.pid, host: hostname(), born: birth(process.pid) };
  if (!create(path, me)) {
    const owner = read(path);
    if (owner === undefined || alive(owner, path)) throw inUse(directory, path, owner);
    takeOver(path, me, directory);
  }
  const heartbeat = setInterval(() => touch(path), HEARTBEAT_MS).unref();
  return {
    release() {
      clearInterval(heartbeat);
      if (same(read(path), me)) rmSync(path, { force: true });
    },
  };
}

/** Replaces a dead owner's lock; the guard directory keeps two that found it dead from removing each other's. */
function takeOver(path: string, me: Owner, directory: string): void {
  const guard = `${path}.takeover`;
  if ((ageMs(guard) ?? 0) > TAKEOVER_STALE_MS) rmdirSync(guard);
  try {
    mkdirSync(guard);
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw inUse(directory, path, read(path));
    throw error;
  }
  try {
    const owner = read(path);
    if (owner !== undefined && alive(owner, path)) throw inUse(directory, path, owner);
    rmSync(path, { force: true });
    if (!create(path, me)) throw inUse(directory, path, read(path));
  } finally {
    rmdirSync(guard);
  }
}

function create(path: string, me: Owner): boolean {
  try {
    writeFileSync(path, `${JSON.stringify(me)}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  }
}

/** Undefined while another process is between creating its lock and writing it, or when it is not a lock at all. */
function read(path: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, host, born } = { pid: undefined, host: undefined, born: undefined, ...value };
    if (typeof pid !== 'number' || typeof host !== 'string' || typeof born !== 'string') return undefined;
    return { pid, host, born };
  } catch {
    return undefined;
  }
}

function alive(owner: Owner, path: string): boolean {
  if (owner.host !== hostname()) return (ageMs(path) ?? 0) < FOREIGN_STALE_MS;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
  }
  return owner.born === birth(owner.pid);
}

/** `<boot id>:<start time>` of a process on Linux (proc(5), field 22 of stat); '' elsewhere. */
function birth(pid: number): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return `${boot}:${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`;
  } catch {
    return '';
  }
}

function inUse(directory: string, path: string, owner: Owner | undefined): FreshvecError {
  const holder = owner ? `process ${owner.pid}${owner.host === hostname() ? '' : ` on ${owner.host}`}` : 'a process';
  return new FreshvecError(
    'embedded_in_use',
    `The embedded database ${directory} is open in ${holder}; two processes on one directory would lose writes. ` +
      `Stop that process, or use another directory. If nothing uses it, delete ${path}.`,
  );
}

function touch(path: string): void {
  try {
    const now = new Date();
    utimesSync(path, now, now);
  } catch {
    // Removed by hand: nothing to keep alive.
  }
}

function ageMs(path: string): number | undefined {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch {
    return undefined;
  }
}

function same(a: Owner | undefined, b: Owner): boolean {
  return a !== undefined && a.pid === b.pid && a.host === b.host && a.born === b.born;
}

function hasCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}
