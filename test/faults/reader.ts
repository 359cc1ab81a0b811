import { spawn } from 'node:child_process';
import path from 'node:path';
import type { MigrationStatus } from '../../src/index.js';
import { eventually } from '../support/eventually.js';
import { atExit } from '../support/servers/cleanup.js';
import { ROOT } from './support/build.js';
import type { System } from './support/system.js';

export interface Searched {
  readonly epoch?: number;
  readonly space?: number;
  readonly models?: readonly string[];
  readonly error?: string;
}

/** A process of an app that searches: `reader-child.mjs`. */
export interface Reader {
  readonly pid: number;
  /** What its searches came to, so far. */
  searched(): Searched[];
  send(signal: NodeJS.Signals): void;
  /** Its exit code, once it has ended. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

function startReader(env: Readonly<Record<string, string>>): Reader {
  const child = spawn(process.execPath, [path.join(ROOT, 'test/faults/reader-child.mjs')], {
    env: { PATH: process.env.PATH ?? '', ...env },
    cwd: path.join(ROOT, 'dist'),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('the reader could not be spawned');
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const forget = atExit(() => child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    pid,
    searched: () =>
      text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Searched),
    send: (signal) => void child.kill(signal),
    async end(signal) {
      child.kill(signal);
      const code = await ended;
      forget();
      return code;
    },
  };
}

/** Runs `fn`, and ends what it started, stopped processes too, whatever becomes of it. */
export async function withReaders(fn: (start: typeof startReader) => Promise<void>): Promise<void> {
  const readers: Reader[] = [];
  try {
    await fn((env) => {
      const reader = startReader(env);
      readers.push(reader);
      return reader;
    });
  } finally {
    await Promise.all(readers.map((reader) => reader.end('SIGKILL')));
  }
}

/** Moves `doc` to `fake/other@8`, with workers of both roles, until it is ready for its cutover. */
export async function migrateUntilReady(system: System, argv: readonly string[] = []): Promise<MigrationStatus> {
  await system.workers.start();
  await system.workers.start({ role: 'reembed' });
  await reembed(system, 'start', 'doc', '--model', 'fake/other@8', '--yes', ...argv);
  return eventually(
    async () => {
      const migration = await reembed(system, 'status', 'doc');
      if (migration.state === 'parked') throw new Error(`parked: ${migration.reason}`);
      return migration.state === 'ready' && migration;
    },
    { timeoutMs: 90_000, intervalMs: 250, what: 'a migration that is ready' },
  );
}

/** `freshvec reembed …` in a process of its own; fails unless it succeeds. */
export async function reembed(system: System, ...argv: readonly string[]): Promise<MigrationStatus> {
  const ran = await system.cli(['reembed', ...argv, '--json']);
  const answer = ran.json<{ migration?: MigrationStatus; error?: { message: string } }>();
  if (!answer.migration) throw new Error(`reembed ${argv.join(' ')}: ${answer.error?.message}`);
  return answer.migration;
}
