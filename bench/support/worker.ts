import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { DrainReport } from '../../src/stages/context.js';
import type { Lab } from './lab.js';

/** What a worker process of a bench is told; `worker-process.ts` obeys. */
export interface WorkerSettings {
  readonly url: string;
  /** `drain`: works when asked, until nothing is left. `serve`: a worker as in production. */
  readonly mode: 'drain' | 'serve';
  /** For `serve`: has the role `reembed` too, with freshvec's default throttle. */
  readonly reembed?: boolean;
  /** For `serve`; without, the queue is in PostgreSQL. */
  readonly redisUrl?: string;
  /** Of the `fake` model. */
  readonly latencyMs?: number;
  /** Of `openai` models. */
  readonly baseUrl?: string;
}

export type ToWorker = { readonly start: WorkerSettings } | 'drain' | 'stop';
export type FromWorker =
  | 'ready'
  | { readonly drained: DrainReport; readonly ms: number }
  | { readonly peakRssMb: number }
  | { readonly error: string };

/** One worker in a process of its own, with freshvec's default settings. */
export class WorkerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lab: Lab,
  ) {}

  static async start(lab: Lab, settings: WorkerSettings): Promise<WorkerProcess> {
    const profile = process.env.BENCH_CPU_PROF;
    const child = fork(fileURLToPath(new URL('worker-process.js', import.meta.url)), {
      execArgv: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`],
    });
    const worker = new WorkerProcess(child, lab);
    lab.later(() => worker.stop());
    await worker.ask({ start: settings });
    return worker;
  }

  /** Drains everything; ms from the first look to the last settled row. */
  async drain(): Promise<{ report: DrainReport; ms: number }> {
    const answer = await this.ask('drain');
    if (typeof answer === 'string' || !('drained' in answer)) throw new TypeError('the worker did not drain');
    return { report: answer.drained, ms: answer.ms };
  }

  /** Stops it as SIGTERM does; resolves to the most memory that it ever held, in MB. */
  async stop(): Promise<number> {
    if (this.child.exitCode !== null || !this.child.connected) return 0;
    const exited = once(this.child, 'exit');
    const answer = await this.ask('stop');
    await exited;
    return typeof answer !== 'string' && 'peakRssMb' in answer ? answer.peakRssMb : 0;
  }

  private ask(message: ToWorker): Promise<Exclude<FromWorker, { error: string }>> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null) => reject(new Error(`the worker process ended with ${code}`));
      const onMessage = (answer: FromWorker) => {
        if (typeof answer !== 'string' && 'error' in answer) return this.lab.say(`worker: ${answer.error}`);
        this.child.off('message', onMessage);
        this.child.off('exit', onExit);
        resolve(answer);
      };
      this.child.on('message', onMessage);
      this.child.once('exit', onExit);
      this.child.send(message);
    });
  }
}
