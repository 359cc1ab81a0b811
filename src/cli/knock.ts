import { lstatSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { FreshvecError } from '../db/errors.js';
import type { Cli } from './cli.js';
import { doorPath, ownerSchema, receive, send } from './door-wire.js';
import type { CliIo, ExitCode } from './io.js';
import { packageVersion } from './version.js';

/** How long a process that has the database open, but no door yet, is waited for: it may be starting, or ending. */
const WAIT_MS = 15_000;
const RETRY_MS = 200;

/** True when the command was run elsewhere, false when it is worth another try here; else throws the error. */
export type Forward = (cli: Cli, error: unknown) => Promise<boolean>;

/** For a command that found its embedded database open in another process: has that one run it. */
export function forwarder(argv: readonly string[]): Forward {
  let deadline: number | undefined;
  return async (cli, error) => {
    const inUse = error instanceof FreshvecError && error.code === 'embedded_in_use';
    if (!inUse || !cli.forwards || cli.io.connection) throw error;
    const { database } = await cli.config();
    if (database?.kind !== 'pglite') throw error;
    const exit = await knock(database.dataDir, argv, cli.io);
    if (exit !== undefined) {
      cli.exitCode = exit;
      return true;
    }
    if (deadline === undefined) cli.say('Another process has the embedded database open; waiting up to 15 s for it.');
    deadline ??= performance.now() + WAIT_MS;
    if (performance.now() > deadline) throw error;
    await sleep(RETRY_MS);
    return false;
  };
}

/**
 * Has the process that has this embedded database open run a command line, and resolves to its exit code; undefined
 * when nobody opens. Throws FreshvecError `version_mismatch`, or `door_lost` when that process ends meanwhile.
 */
export function knock(dataDir: string, argv: readonly string[], io: CliIo): Promise<ExitCode | undefined> {
  const path = doorPath(dataDir);
  if (!isTrusted(path, dataDir)) return Promise.resolve(undefined);
  const socket = connect(path);
  let begun = false;
  let asked = false;
  const type = (chunk: string | Buffer) => send(socket, { typed: String(chunk) });
  const typeEnd = () => send(socket, { typed: null });
  const stop = () => send(socket, { stop: true });

  return new Promise<ExitCode | undefined>((resolve, reject) => {
    socket.once('connect', () => {
      send(socket, { version: packageVersion(), argv: [...argv], cwd: io.cwd, isTTY: io.isTTY });
    });
    socket.on('error', () => {}); // 'close' follows
    socket.once('close', () => (begun ? reject(lost()) : resolve(undefined)));
    receive(socket, (value) => {
      const said = ownerSchema.parse(value);
      begun ||= said.begun === true;
      if (said.out !== undefined) io.stdout.write(said.out);
      if (said.err !== undefined) io.stderr.write(said.err);
      if (said.asks && !asked) {
        asked = true;
        io.stdin.on('data', type).once('end', typeEnd);
      }
      if (said.heeds) onAbort(io.stopSignal(), stop);
      if (said.refused) reject(new FreshvecError(said.refused.code, said.refused.message));
      if (said.exit !== undefined) resolve(said.exit);
    });
  }).finally(() => {
    socket.destroy();
    if (asked) io.stdin.off('data', type).off('end', typeEnd).pause();
  });
}

/** The temporary directory is everybody's: only a socket of ours, of root's, or of the directory's owner will do. */
function isTrusted(path: string, dataDir: string): boolean {
  const owner = lstatSync(path, { throwIfNoEntry: false })?.uid;
  return owner !== undefined && [process.getuid?.(), 0, statSync(dataDir).uid].includes(owner);
}

function onAbort(signal: AbortSignal, act: () => void): void {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, { once: true });
}

function lost(): FreshvecError {
  return new FreshvecError(
    'door_lost',
    'The process that has the embedded database open ended before it answered. Look what was done, and try again.',
  );
}
