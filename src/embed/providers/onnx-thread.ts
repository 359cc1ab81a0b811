import { once } from 'node:events';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { EmbedError, type EmbedFailure } from '../port.js';
import type { EngineInfo, EngineOptions, EngineResult } from './onnx-engine.js';
import { createGate, shutGate } from './onnx-gate.js';
// Types only, so that nothing of it runs here; named at all, so that it is compiled with whatever imports this.
import type { FromThread, ThreadFailure, ToThread } from './onnx-worker.js';

/** Longer than any one inference; what a process may hang at its end where a thread does not come out. */
const EXIT_WAIT_MS = 10_000;

interface Pending {
  resolve(result: Pick<EngineResult, 'tokens'> & { readonly vectors: Float32Array }): void;
  reject(error: unknown): void;
}

/** One running thread with one model in it. Keeps the process alive only while it has something to do. */
export class OnnxThread {
  readonly info: EngineInfo;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private stopping = false;
  private ended = false;
  private cause: unknown;

  private constructor(
    private readonly worker: Worker,
    info: EngineInfo,
  ) {
    this.info = info;
    worker.on('message', (message: FromThread) => this.take(message));
    worker.on('error', (error) => {
      this.cause = error; // The exit that follows tells all who wait.
    });
    worker.once('exit', () => this.rejectAll());
    worker.unref();
  }

  /** Starts a thread and waits for the model. Throws EmbedError `configuration` or `unavailable`. */
  static async start(options: Omit<EngineOptions, 'gate'>, onExit: () => void): Promise<OnnxThread> {
    const gate = createGate();
    // The same extension as this module's: tests run from the sources.
    const entry = new URL(`./onnx-worker${extname(import.meta.url)}`, import.meta.url);
    const workerData: EngineOptions = { ...options, gate };
    const worker = new Worker(entry, { workerData });
    const shut = () => shutGate(gate, EXIT_WAIT_MS);
    process.once('exit', shut);
    worker.once('exit', () => {
      process.removeListener('exit', shut);
      onExit();
    });
    return new OnnxThread(worker, await opened(worker));
  }

  /**
   * Vectors of length `dimensions`, in the order of the texts. Throws EmbedError, or the signal's reason. A thread that
   * dies meanwhile is a `bad_response`: it may have died of one of these texts.
   */
  async embed(
    texts: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<{ vectors: Float32Array[]; tokens: number }> {
    signal?.throwIfAborted();
    if (this.ended) throw gone(this.cause);
    const id = this.nextId++;
    const abort = () => {
      this.post({ cancel: id });
      this.settle(id)?.reject(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const result = await new Promise<Parameters<Pending['resolve']>[0]>((resolve, reject) => {
        this.pending.set(id, { resolve, reject });
        this.worker.ref();
        this.post({ embed: id, texts });
      });
      const { dimensions } = this.info;
      const vectors = texts.map((_, i) => result.vectors.slice(i * dimensions, (i + 1) * dimensions));
      return { vectors, tokens: result.tokens };
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Ends the thread after the inference that is under way. Requests that wait are `unavailable`. */
  async stop(): Promise<void> {
    if (this.ended) return;
    const exit = once(this.worker, 'exit');
    this.stopping = true;
    this.worker.ref();
    this.post({ stop: true });
    await exit;
  }

  private post(message: ToThread): void {
    this.worker.postMessage(message);
  }

  private take(message: FromThread): void {
    if (!('id' in message)) return;
    const waiting = this.settle(message.id);
    if ('failed' in message) waiting?.reject(errorOf(message.failed));
    else waiting?.resolve(message);
  }

  private settle(id: number): Pending | undefined {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    if (this.pending.size === 0) this.worker.unref();
    return waiting;
  }

  private rejectAll(): void {
    this.ended = true;
    const error = this.stopping ? gone(this.cause) : gone(this.cause, 'bad_response');
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }
}

async function opened(worker: Worker): Promise<EngineInfo> {
  const message = await new Promise<FromThread>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', (error) => reject(gone(error)));
    worker.once('exit', () => reject(gone()));
  });
  if ('opened' in message) return message.opened;
  if ('failed' in message) throw errorOf(message.failed);
  throw gone();
}

function errorOf({ failure, message }: ThreadFailure): EmbedError {
  return new EmbedError(failure, message);
}

function gone(cause?: unknown, failure: EmbedFailure = 'unavailable'): EmbedError {
  return Object.assign(new EmbedError(failure, 'the thread that runs the ONNX model ended'), { cause });
}
