import { access, mkdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { debianMirror } from './aptMirror.js';
import { output, runLoudly, succeeds } from './command.js';

/** A private Debian 13 tree: Debian 12 has no pgvector, and these binaries need Debian 13's libc, hence chroot. */
export interface Tree {
  readonly directory: string;
}

export interface TreeUser {
  readonly uid: number;
  readonly gid: number;
}

const MUST_HAVE = [
  'usr/lib/postgresql/17/bin/postgres',
  'usr/lib/postgresql/17/lib/vector.so',
  'usr/share/postgresql/17/extension/vector.control',
  'usr/bin/redis-server',
  'usr/sbin/pgbouncer',
  'usr/bin/setpriv',
];

/**
 * The lock is flock's, so a killed builder releases it. The tree appears by one rename, so whoever sees it sees all of
 * it. `--one-file-system`: a killed mmdebstrap may have left /dev or /sys of this machine mounted in its half.
 */
const BUILD_SCRIPT = `set -eu
tree=$1; mirror=$2; shift 2
complete() { for file in "$@"; do test -e "$tree/$file" || return 1; done; }
if complete "$@"; then exit 0; fi
if [ -e "$tree" ] && [ ! -e "$tree/.freshvec-tree" ] && [ -n "$(ls -A "$tree")" ]; then
  echo "$tree is in the way and was not made by freshvec" >&2; exit 1
fi
rm -rf --one-file-system "$tree".building.*
half="$tree.building.$$"
proxy=$(apt-config dump --no-empty Acquire::http::Proxy)
mmdebstrap --quiet --variant=minbase --include=postgresql-17-pgvector,redis-server,pgbouncer \
  \${proxy:+--aptopt="$proxy"} trixie "$half" "$mirror"
touch "$half/.freshvec-tree"
rm -rf --one-file-system "$tree"
mv -T "$half" "$tree"
`;

export function treeDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return path.resolve(env.FRESHVEC_SERVERS_DIR ?? path.join(os.homedir(), '.cache', 'freshvec', 'debian13'));
}

/** The tree, built first where it is missing or damaged. Takes about 20 s and 530 MB, once per machine. */
export async function ensureTree(directory = treeDirectory()): Promise<Tree> {
  if (process.getuid?.() !== 0) {
    throw new Error('The private Debian 13 tree needs root (chroot). Else give DATABASE_URL and REDIS_URL, or Docker.');
  }
  if (!(await isComplete(directory))) await build(directory);
  return { directory };
}

async function isComplete(directory: string): Promise<boolean> {
  const found = await Promise.allSettled(MUST_HAVE.map((file) => access(path.join(directory, file))));
  return found.every(({ status }) => status === 'fulfilled');
}

async function build(directory: string): Promise<void> {
  const mirror = await debianMirror();
  if (!mirror) {
    throw new Error("No Debian mirror in this machine's apt sources. Give DATABASE_URL and REDIS_URL, or Docker.");
  }
  await ensureMmdebstrap();
  process.stderr.write(`servers: building a private Debian 13 tree in ${directory} (once, about 20 s)\n`);
  await mkdir(path.dirname(directory), { recursive: true });
  const args = ['--exclusive', `${directory}.lock`, 'sh', '-c', BUILD_SCRIPT, 'build', directory, mirror, ...MUST_HAVE];
  await runLoudly('flock', args, process.env);
  if (!(await isComplete(directory))) throw new Error(`${directory} was built but is not complete`);
}

async function ensureMmdebstrap(): Promise<void> {
  if (await succeeds('mmdebstrap', ['--version'], 10_000)) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runLoudly('apt-get', ['-q', 'update'], env);
  await runLoudly('apt-get', ['-q', 'install', '-y', '--no-install-recommends', 'mmdebstrap'], env);
}

/** uid and gid inside the tree; they mean nothing to the machine outside it. */
export async function treeUser(tree: Tree, name: string): Promise<TreeUser> {
  const passwd = await readFile(path.join(tree.directory, 'etc/passwd'), 'utf8');
  const fields = passwd.split('\n').map((line) => line.split(':'));
  const entry = fields.find(([user]) => user === name);
  if (!entry) throw new Error(`The tree ${tree.directory} has no user ${name}`);
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/** The arguments of `chroot` that run a command of the tree as one of its users; exec all the way, so the pid stays. */
export function chrootArgs(tree: Tree, user: TreeUser, command: readonly string[]): string[] {
  return [`--userspec=${user.uid}:${user.gid}`, tree.directory, ...command];
}

export async function runInTree(tree: Tree, user: TreeUser, command: readonly string[]): Promise<string> {
  return output('chroot', chrootArgs(tree, user, command));
}
