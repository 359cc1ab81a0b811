import { Readable, Writable } from 'node:stream';
import pg from 'pg';
import { run } from '../../src/cli/run.js';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The one JSON document on stdout; fails when there is anything else. */
  json<T = Record<string, unknown>>(): T;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** What a person types; with it, there is a terminal. */
  readonly typed?: string;
  readonly stop?: AbortSignal;
}

/** Runs one command line in this process. */
export async function freshvec(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await run(argv, {
    stdout: { write: (text) => out.push(text) },
    stderr: new Writable({
      write(chunk, _, done) {
        err.push(String(chunk));
        done();
      },
    }),
    stdin: Readable.from(options.typed === undefined ? [] : [`${options.typed}\n`]),
    env: options.env ?? {},
    cwd: options.cwd ?? '/',
    isTTY: options.typed !== undefined,
    stopSignal: () => options.stop ?? new AbortController().signal,
  });
  const stdout = out.join('');
  return { code, stdout, stderr: err.join(''), json: <T>() => JSON.parse(stdout) as T };
}

/** Runs statements as the app would, on a connection of its own. */
export async function sql<R extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<R[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const result = await client.query<R>(text, values);
    return result.rows;
  } finally {
    await client.end();
  }
}
