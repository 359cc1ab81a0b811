import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { eventually } from '../../support/eventually.js';
import { atExit } from '../../support/servers/cleanup.js';
import { ROOT } from './build.js';

/** Where a controller strikes itself: see `controller-main.mjs`. */
export interface Strike {
  readonly signal: 'SIGKILL' | 'SIGSTOP';
  /** A regular expression over `state, before|sent: statement`; the first boundary that is not `met` unless told. */
  readonly at?: string;
  /** Half of the statements whose effect is undone are passed over, the others have one boundary, `before` or `sent`. */
  readonly sparse?: boolean | undefined;
  /** Keys of boundaries that were met before. */
  readonly met?: readonly string[];
}

export interface Struck {
  readonly key: string;
  readonly state: string;
  /** State, before or sent, and the statement. */
  readonly label: string;
}

/** A controller in a process of its own. */
export interface ControllerProcess {
  /** Its application_name. */
  readonly name: string;
  readonly running: boolean;
  /** Where it struck itself; undefined as long as it did not. */
  struck(): Struck | undefined;
  /** The state in which it found nothing more to do, last. */
  rests(): string | undefined;
  /** Whether it was continued and has left what it was at when it was stopped. */
  woke(): boolean;
  /** What it wrote about errors. */
  log(): string;
  stop(): void;
  continue(): void;
  /** SIGKILL, and its end. */
  kill(): Promise<void>;
}

/** Controllers of one migration after another or at once; one is always started ahead, since starting takes long. */
export class Controllers {
  readonly all: ControllerProcess[] = [];
  private spare: ChildProcess | undefined;

  /** `gates`: the real ones; else none holds anything back. */
  constructor(
    private readonly url: string,
    private readonly gates = false,
  ) {}

  /** A controller; with `ask` a person's command, on the source `doc`. */
  start(id: number, strike?: Strike, ask?: 'cutover' | 'rollback'): ControllerProcess {
    const name = `controller-${this.all.length + 1}`;
    const child = this.spare ?? spawnController();
    this.spare = spawnController();
    const controller = follow(name, child);
    this.all.push(controller);
    child.stdin?.on('error', () => {}); // It may be dead before it has read.
    child.stdin?.end(
      JSON.stringify({
        url: this.url,
        name,
        id,
        ask,
        gates: this.gates,
        ...(strike && { strike: { met: [], ...strike } }),
      }),
    );
    return controller;
  }

  /** What all of them wrote about errors, for failure messages. */
  logs(): string {
    return this.all.map((controller) => `--- ${controller.name}\n${controller.log().slice(-2000)}`).join('\n');
  }

  async close(): Promise<void> {
    const { spare } = this;
    this.spare = undefined;
    if (spare) await follow('spare', spare).kill();
    await Promise.all(this.all.map((controller) => controller.kill()));
  }
}

function spawnController(): ChildProcess {
  return spawn(process.execPath, [path.join(ROOT, 'test/faults/support/controller-main.mjs')], {
    env: { PATH: process.env.PATH ?? '' },
    cwd: path.join(ROOT, 'dist'),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

function follow(name: string, child: ChildProcess): ControllerProcess {
  let out = '';
  let log = '';
  let running = child.exitCode === null && child.signalCode === null;
  child.stdout?.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    log += chunk.toString();
  });
  const forget = atExit(() => child.kill('SIGKILL'));
  child.once('close', () => {
    running = false;
    forget();
  });
  return {
    name,
    get running() {
      return running;
    },
    struck: () => lines(out).find((line): line is Struck => 'key' in line),
    rests: () => lines(out).findLast((line) => 'rests' in line)?.rests,
    woke: () => lines(out).some((line) => 'woke' in line),
    log: () => log,
    stop: () => void child.kill('SIGSTOP'),
    continue: () => void child.kill('SIGCONT'),
    async kill() {
      if (running) child.kill('SIGKILL');
      await eventually(() => !running, { what: `the end of ${name}` });
    },
  };
}

type Line = Struck | { readonly rests: string } | { readonly woke: true };

/** Only whole lines: a pipe may be read in the middle of one. */
function lines(out: string): Line[] {
  const whole = out.slice(0, out.lastIndexOf('\n') + 1).split('\n');
  return whole.filter((line) => line !== '').map((line) => JSON.parse(line) as Line);
}
