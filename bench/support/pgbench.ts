import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { chrootArgs, treeDirectory, treeUser } from '../../test/support/servers/tree.js';

const PATH_IN_TREE = '/usr/lib/postgresql/17/bin/pgbench';

export interface Load {
  readonly url: string;
  readonly clients: number;
  /** How long it goes on; or how many transactions of each client. */
  readonly length: { readonly seconds: number } | { readonly transactions: number };
  /** A pgbench script: one transaction. */
  readonly script: string;
}

/** Transactions per second of a closed loop, by pgbench: that of the private tree, else the machine's. */
export async function pgbench({ url, clients, length, script }: Load): Promise<number> {
  const [program, ...prefix] = await command();
  const threads = Math.min(clients, 2);
  const end = 'seconds' in length ? ['-T', length.seconds] : ['-t', length.transactions];
  const args = ['-n', '-M', 'prepared', '-c', clients, '-j', threads, ...end, '-f', '-', url].map(String);
  const child = spawn(program, [...prefix, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (said += String(data)));
  child.stdin.end(script);
  await once(child, 'close');
  const tps = Number(/^tps = ([\d.]+)/m.exec(said)?.[1]);
  if (child.exitCode !== 0 || !(tps > 0)) throw new Error(`pgbench failed: ${said.slice(-500)}`);
  return tps;
}

async function command(): Promise<[string, ...string[]]> {
  const directory = treeDirectory();
  const there = await access(path.join(directory, PATH_IN_TREE)).then(
    () => true,
    () => false,
  );
  if (!there) return ['pgbench'];
  const tree = { directory };
  return ['chroot', ...chrootArgs(tree, await treeUser(tree, 'postgres'), [PATH_IN_TREE])];
}
