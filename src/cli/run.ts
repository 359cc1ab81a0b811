import { Command, CommanderError } from 'commander';
import { Cli } from './cli.js';
import { configCommands } from './commands/config.js';
import { embedCommand } from './commands/embed.js';
import { enqueueCommand } from './commands/enqueue.js';
import { failureCommands } from './commands/failures.js';
import { maintainCommands } from './commands/maintain.js';
import { pauseCommands } from './commands/pause.js';
import { probeCommands } from './commands/probe.js';
import { reembedCommands } from './commands/reembed/index.js';
import { reindexCommand } from './commands/reindex.js';
import { schemaCommands } from './commands/schema.js';
import { searchCommand } from './commands/search.js';
import { sourceCommands } from './commands/source.js';
import { spendCommand } from './commands/spend.js';
import { statusCommand } from './commands/status.js';
import { uninstallCommand } from './commands/uninstall.js';
import { upCommand } from './commands/up.js';
import { workCommand } from './commands/work.js';
import { tell } from './errors.js';
import { addGlobalFlags, type GlobalFlags, settleEmbedded } from './flags.js';
import { type CliIo, EXIT, type ExitCode } from './io.js';
import { type Forward, forwarder } from './knock.js';
import type { Act, Register } from './register.js';
import { packageVersion } from './version.js';

const COMMANDS: readonly Register[] = [
  schemaCommands,
  sourceCommands,
  workCommand,
  upCommand,
  statusCommand,
  enqueueCommand,
  searchCommand,
  embedCommand,
  failureCommands,
  pauseCommands,
  spendCommand,
  probeCommands,
  reembedCommands,
  maintainCommands,
  reindexCommand,
  configCommands,
  uninstallCommand,
];

/**
 * Runs one command line, without the node binary and the script; resolves to its exit code and never throws. With
 * --json exactly one document goes to stdout, an error's too. A command that needs the embedded database of another
 * process is run there (`door.ts`).
 */
export async function run(argv: readonly string[], world: CliIo): Promise<ExitCode> {
  const io = withOneStopSignal(world);
  const program = createProgram(io);
  const forward = forwarder(argv);
  let cli: Cli | undefined;
  const act: Act =
    (action) =>
    async (...args) => {
      for (let over = false; !over; ) {
        await cli?.close();
        cli = new Cli(io, program.opts<GlobalFlags>(), run);
        over = await finish(action(cli, ...args), cli, forward);
      }
    };
  for (const register of COMMANDS) register(program, act);
  forEachCommand(program, (command) => prepare(command, io));
  try {
    await program.parseAsync(settleEmbedded(argv), { from: 'user' });
    return cli?.exitCode ?? EXIT.fine;
  } catch (error) {
    return fail(error, io, program.opts<GlobalFlags>().json ?? argv.includes('--json'), isVerbose(argv, io));
  } finally {
    await cli?.close().catch(() => {});
  }
}

/** Resolves to false when the command is to be tried again. */
async function finish(action: Promise<void>, cli: Cli, forward: Forward): Promise<boolean> {
  try {
    await action;
    return true;
  } catch (error) {
    return forward(cli, error);
  }
}

/** Each call of a process's `stopSignal` adds listeners; a command that is tried again asks again. */
function withOneStopSignal(io: CliIo): CliIo {
  let signal: AbortSignal | undefined;
  return {
    ...io,
    stopSignal() {
      signal ??= io.stopSignal();
      return signal;
    },
  };
}

function createProgram(io: CliIo): Command {
  const program = new Command('freshvec')
    .description('Keeps vector embeddings of Postgres rows fresh.')
    .version(packageVersion(), '--version')
    .helpOption('-h, --help', 'how it is used')
    .helpCommand('help [command]', 'how a command is used')
    .addHelpText(
      'after',
      `
Example, with no server at all:
  $ npx freshvec schema apply --embedded
  $ npx freshvec source add notes --content title,body --model static/mini@256 --embedded
  $ npx freshvec work --once --embedded
  $ npx freshvec search notes "how do I bake bread" --embedded`,
    );
  prepare(addGlobalFlags(program), io);
  return program;
}

function prepare(command: Command, io: CliIo): void {
  command
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, helpWidth: 100 })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => {}, // `fail` tells it, once.
    });
}

function forEachCommand(command: Command, visit: (command: Command) => void): void {
  for (const sub of command.commands) {
    visit(sub);
    forEachCommand(sub, visit);
  }
}

function fail(error: unknown, io: CliIo, json: boolean, verbose: boolean): ExitCode {
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.fine;
  // A group without its command: commander has shown the help already.
  const shown = error instanceof CommanderError && error.code === 'commander.help';
  const { code, message, exitCode } = tell(shown ? new CommanderError(2, error.code, 'a command is missing') : error);
  if (json) io.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
  else if (!shown) io.stderr.write(`freshvec: ${message}\n`);
  if (verbose && error instanceof Error) io.stderr.write(`${framesOf(error)}\n`);
  return exitCode;
}

/** Where it was thrown. Not the whole stack: that begins with the bare message, which may quote content or a key. */
function framesOf({ stack = '' }: Error): string {
  return stack
    .split('\n')
    .filter((line) => /^ {4}at /.test(line))
    .join('\n');
}

function isVerbose(argv: readonly string[], io: CliIo): boolean {
  return argv.includes('--verbose') || (io.env.DEBUG ?? '') !== '';
}
