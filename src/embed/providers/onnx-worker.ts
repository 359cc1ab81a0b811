/** The thread's entry: holds one model and answers requests until told to stop; the other side is onnx-thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { EmbedError, type EmbedFailure } from '../port.js';
import { type EngineInfo, type EngineOptions, OnnxEngine } from './onnx-engine.js';

/** What goes into the thread. `id` numbers requests; a cancelled one is not answered. */
export type ToThread =
  | { readonly embed: number; readonly texts: readonly string[] }
  | { readonly cancel: number }
  | { readonly stop: true };

/** What comes out: first `opened` or `failed` (and then nothing more), then one answer per request. */
export type FromThread =
  | { readonly opened: EngineInfo }
  | { readonly failed: ThreadFailure }
  | { readonly id: number; readonly vectors: Float32Array; readonly tokens: number }
  | { readonly id: number; readonly failed: ThreadFailure };

/** An EmbedError, which does not survive the crossing as such. */
export interface ThreadFailure {
  readonly failure: EmbedFailure;
  readonly message: string;
}

const cancelled = new Set<number>();

async function serve(engine: OnnxEngine): Promise<void> {
  parentPort?.on('message', (message: ToThread) => {
    if ('cancel' in message) cancelled.add(message.cancel);
    else if ('embed' in message) void answer(engine, message.embed, message.texts);
    else void engine.close().finally(() => process.exit());
  });
  send({ opened: engine.info });
}

async function answer(engine: OnnxEngine, id: number, texts: readonly string[]): Promise<void> {
  try {
    const result = await engine.embed(texts, () => cancelled.has(id));
    if (result) send({ id, ...result }, [result.vectors.buffer]);
  } catch (error) {
    if (!cancelled.has(id)) send({ id, failed: failureOf(error, 'bad_response') });
  }
  cancelled.delete(id);
}

function send(message: FromThread, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

function failureOf(error: unknown, otherwise: EmbedFailure): ThreadFailure {
  if (error instanceof EmbedError) return { failure: error.failure, message: error.message };
  return { failure: otherwise, message: error instanceof Error ? error.message : String(error) };
}

try {
  await serve(await OnnxEngine.open(workerData as EngineOptions));
} catch (error) {
  send({ failed: failureOf(error, 'unavailable') });
}
