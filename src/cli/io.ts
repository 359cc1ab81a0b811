import type { Connection } from '../client/connection.js';
import type { Environment } from '../config/environment.js';

/** All that a command touches of the world, so that tests can run it in their own process. */
export interface CliIo {
  readonly stdout: { write(text: string): unknown };
  /** Logs, questions and progress. */
  readonly stderr: NodeJS.WritableStream;
  readonly stdin: NodeJS.ReadableStream;
  readonly env: Environment;
  readonly cwd: string;
  /** A person sits there: ask, and draw progress bars. */
  readonly isTTY: boolean;
  /** Aborts when the process is told to end; asked for only by commands that then have something to finish. */
  stopSignal(): AbortSignal;
  /** For a command that came in by the door: what this process has open, with its configuration. Stays open. */
  readonly connection?: Connection;
}

/** Runs one command line, without the node binary and the script. */
export type Run = (argv: readonly string[], io: CliIo) => Promise<ExitCode>;

/** 0 fine, 1 error, 2 usage, 3 finished but some rows failed. */
export const EXIT = { fine: 0, error: 1, usage: 2, rowsFailed: 3 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
