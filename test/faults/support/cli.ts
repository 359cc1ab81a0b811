import { spawn } from 'node:child_process';
import path from 'node:path';
import { ROOT } from './build.js';

export interface CliRunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Where its configuration file is looked for; without, there is none. */
  readonly cwd?: string;
}

export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The one JSON document on stdout. */
  json<T>(): T;
}

/** Runs one command line of the compiled CLI in a process of its own, with nothing of our environment but the path. */
export async function runCli(argv: readonly string[], { env = {}, cwd }: CliRunOptions = {}): Promise<CliRun> {
  const child = spawn(process.execPath, [path.join(ROOT, 'dist/src/cli/main.js'), ...argv], {
    env: { PATH: process.env.PATH ?? '', ...env },
    cwd: cwd ?? path.join(ROOT, 'dist'),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  });
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      written[name] += chunk;
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  return {
    code,
    ...written,
    json<T>() {
      if (written.stdout === '') throw new Error(`no answer: ${written.stderr}`);
      return JSON.parse(written.stdout) as T;
    },
  };
}
