#!/usr/bin/env node
import { stopSignal } from '../client/signals.js';
import { processEnvironment } from '../config/environment.js';
import { run } from './run.js';

/** A reader that has seen enough (`| head`) is no error. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const code = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  env: processEnvironment(),
  cwd: process.cwd(),
  isTTY: Boolean(process.stdin.isTTY && process.stderr.isTTY),
  stopSignal,
});
// Not left to the event loop: a connection that hangs would keep the process, an early exit would cut a pipe short.
process.exitCode = code;
process.stdout.write('', () => process.exit(code));
