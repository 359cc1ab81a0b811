import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { chown, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { eventually } from '../eventually.js';
import { atExit } from './cleanup.js';
import type { Engine } from './engine.js';
import { chrootArgs, runInTree, type Tree, treeUser } from './tree.js';

export interface TreeServer {
  readonly tree: Tree;
  readonly user: string;
  /** Run once on the empty directory, e.g. initdb. Paths are inside the tree. */
  readonly prepare?: (directory: string) => readonly string[];
  readonly command: (directory: string) => readonly string[];
  /** Sent by the kernel when we die without a chance to clean up. */
  readonly deathSignal: 'QUIT' | 'TERM';
}

const END_TIMEOUT_MS = 60_000;

/** A server of the tree, with its data in a directory of its own under the tree's /srv. */
export async function treeEngine(server: TreeServer): Promise<Engine> {
  const { tree } = server;
  const user = await treeUser(tree, server.user);
  await sweepOrphans(tree);
  const home = await mkdtemp(path.join(tree.directory, 'srv', `fv-${process.pid}-`));
  const remove = () => rmSync(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  let child: ChildProcess | undefined;
  const forget = atExit(() => {
    if (child?.pid) killNow(child.pid);
    remove();
  });
  const inside = `/srv/${path.basename(home)}`;
  const logFile = path.join(home, 'server.log');
  try {
    await chown(home, user.uid, user.gid);
    if (server.prepare) await runInTree(tree, user, server.prepare(inside));
  } catch (error) {
    forget();
    remove();
    throw error;
  }

  return {
    get pid() {
      return child?.pid;
    },
    async begin() {
      const log = await open(logFile, 'a');
      // setpriv stands inside chroot: a change of user would clear the death signal again.
      const command = ['/usr/bin/setpriv', `--pdeathsig=${server.deathSignal}`, '--', ...server.command(inside)];
      const started = spawn('chroot', chrootArgs(tree, user, command), { cwd: '/', stdio: ['ignore', log.fd, log.fd] });
      child = started;
      started.once('exit', () => {
        if (child === started) child = undefined;
      });
      await log.close();
    },
    async end(signal) {
      const ending = child;
      if (!ending?.pid) return;
      const family = [ending.pid, ...childrenOf(ending.pid)];
      const victims = signal === 'SIGKILL' ? family : [ending.pid];
      for (const pid of victims) signalQuietly(pid, signal);
      for (const pid of family) signalQuietly(pid, 'SIGCONT');
      const gone = () => child !== ending && !family.some(isAlive);
      await eventually(gone, { timeoutMs: END_TIMEOUT_MS, what: `the end of ${server.user} by ${signal}` });
    },
    async logTail() {
      return (await readFile(logFile, 'utf8').catch(() => '')).slice(-2000);
    },
    async remove() {
      await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
      forget();
    },
  };
}

/** Directories of processes that were killed before they could remove them. Their servers got the death signal. */
async function sweepOrphans(tree: Tree): Promise<void> {
  const srv = path.join(tree.directory, 'srv');
  for (const name of await readdir(srv)) {
    const owner = Number(/^fv-(\d+)-/.exec(name)?.[1]);
    if (owner && !isAlive(owner)) await rm(path.join(srv, name), { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Backends do not die with a killed postmaster at once; they are its children, and so ours to end. */
function killNow(pid: number): void {
  for (const each of [pid, ...childrenOf(pid)]) signalQuietly(each, 'SIGKILL');
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === parent);
}

function parentOf(pid: number): number | undefined {
  try {
    // "pid (name) state ppid …": the name may hold spaces and parentheses.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // A zombie has ended; it only waits for whoever adopted it.
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch {
    return false;
  }
}

function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already.
  }
}
