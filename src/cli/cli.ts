import { createInterface } from 'node:readline/promises';
import { type Client, clientOver } from '../client/client.js';
import { Connection } from '../client/connection.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import { createLog, type Log } from '../observe/log.js';
import type { GlobalFlags } from './flags.js';
import { toSettings } from './flags.js';
import { type CliIo, EXIT, type ExitCode, type Run } from './io.js';

/** What a command is handed: the configuration, a client, and where to write. */
export class Cli {
  exitCode: ExitCode = EXIT.fine;
  /** How long a database that does not answer is tried again: a person waits. Undefined for what has time. */
  reachMs: number | undefined = 5_000;
  /** A process that has the embedded database open may run this command in our place. */
  forwards = true;
  #config: Promise<Config> | undefined;
  #client: Client | undefined;
  #log: Log | undefined;

  constructor(
    readonly io: CliIo,
    readonly flags: GlobalFlags,
    readonly run: Run,
  ) {}

  /** There is somebody to ask and to draw for. */
  get interactive(): boolean {
    return this.io.isTTY && !this.flags.json;
  }

  config(): Promise<Config> {
    const { env, cwd, connection } = this.io;
    if (connection) return Promise.resolve(connection.config);
    this.#config ??= loadConfig({ env, cwd, flags: toSettings(this.flags), file: this.flags.config });
    return this.#config;
  }

  get client(): Client {
    this.#client ??= clientOver(async () => this.io.connection ?? this.#connect(), { announces: false });
    return this.#client;
  }

  get log(): Log {
    this.#log ??= createLog(this.flags.verbose ? 'debug' : 'info', this.io.stderr);
    return this.#log;
  }

  /** The command's answer: JSON on stdout with --json, else text for people. */
  answer(json: unknown, text: () => string): void {
    this.io.stdout.write(this.flags.json ? `${JSON.stringify(json)}\n` : ensureNewline(text()));
  }

  /** A line for people, on stderr. */
  say(text: string): void {
    this.io.stderr.write(ensureNewline(text));
  }

  /** Asks y/N on the terminal; no answer is no. A no ends the command with 1: what was asked for is not done. */
  async confirm(question: string): Promise<boolean> {
    const terminal = createInterface({ input: this.io.stdin, output: this.io.stderr });
    const closed = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
    const answer = await Promise.race([terminal.question(`${question} [y/N] `), closed]);
    terminal.close();
    const yes = /^y(es)?$/i.test(answer.trim());
    if (!yes) {
      this.say('Nothing was changed.');
      this.exitCode = EXIT.error;
    }
    return yes;
  }

  async close(): Promise<void> {
    if (!this.io.connection) await this.#client?.close();
  }

  async #connect(): Promise<Connection> {
    const onError = (err: unknown) => this.log.warn({ err }, 'an error that was survived');
    return new Connection(await this.config(), onError, this.reachMs);
  }
}

function ensureNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
