import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { eventually } from '../../support/eventually.js';
import { atExit } from '../../support/servers/cleanup.js';
import { ROOT } from './build.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A real process that runs one line of the Procfile. */
export interface WorkerProcess {
  /** Its application_name on the server. */
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  readonly running: boolean;
  /** All that it wrote, stderr and stdout. */
  log(): string;
  send(signal: NodeJS.Signals): void;
  /** Sends the signal and waits for the end. Fails when it does not come. */
  end(signal: NodeJS.Signals, withinMs?: number): Promise<Exit>;
}

export interface StartOptions {
  readonly role?: 'embed' | 'maintain' | 'reembed';
  readonly env?: Readonly<Record<string, string>>;
  /** Where its configuration file is looked for; without, there is none. */
  readonly cwd?: string;
  /** False: resolves at once, not when it says that it started. */
  readonly wait?: boolean;
}

/** The worker processes of one test. Those that still run at its end, stopped ones too, are killed by pid. */
export class Fleet {
  readonly all: WorkerProcess[] = [];

  constructor(private readonly env: Readonly<Record<string, string>>) {}

  async start({ role = 'embed', env = {}, cwd, wait = true }: StartOptions = {}): Promise<WorkerProcess> {
    const name = `worker-${this.all.length + 1}`;
    const url = env.DATABASE_URL ?? this.env.DATABASE_URL ?? '';
    const child = spawn(process.execPath, [path.join(ROOT, `dist/workers/${role}.js`)], {
      // Nothing of our own environment but the path: a developer's variables must not change a fault.
      env: { PATH: process.env.PATH ?? '', ...this.env, ...env, DATABASE_URL: named(url, name) },
      cwd: cwd ?? path.join(ROOT, 'dist'),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const worker = follow(name, child);
    this.all.push(worker);
    if (wait) await started(worker);
    return worker;
  }

  /** The end of what each wrote, for failure messages. */
  logs(): string {
    return this.all.map((worker) => `--- ${worker.name} (${worker.pid})\n${worker.log().slice(-4000)}`).join('\n');
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((worker) => worker.end('SIGKILL')));
  }
}

/** The URL with this application_name; one that is no URL is a fault of the test's, and stays as it is. */
function named(url: string, name: string): string {
  const parsed = URL.parse(url);
  parsed?.searchParams.set('application_name', name);
  return parsed?.href ?? url;
}

function follow(name: string, child: ChildProcess): WorkerProcess {
  const { pid } = child;
  if (pid === undefined) throw new Error(`${name} could not be spawned`);
  let log = '';
  let running = true;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
  }
  const forget = atExit(() => child.kill('SIGKILL'));
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      running = false;
      forget();
      resolve({ code, signal });
    });
  });
  return {
    name,
    pid,
    exited,
    get running() {
      return running;
    },
    log: () => log,
    send: (signal) => void child.kill(signal),
    async end(signal, withinMs = 30_000) {
      if (running) child.kill(signal);
      await eventually(() => !running, { timeoutMs: withinMs, what: `the end of ${name} by ${signal}` });
      return exited;
    },
  };
}

async function started(worker: WorkerProcess): Promise<void> {
  const says = () => {
    if (!worker.running) throw new Error(`${worker.name} ended: ${worker.log()}`);
    return worker.log().includes('"msg":"started"');
  };
  await eventually(says, { timeoutMs: 40_000, intervalMs: 20, what: `the start of ${worker.name}` });
}
