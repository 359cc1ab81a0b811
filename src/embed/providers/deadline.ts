import { EmbedError } from '../port.js';

export interface Deadline {
  readonly spec: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** Turns what was thrown into what the caller is told; EmbedErrors pass as they are. */
  readonly toEmbedError: (error: unknown) => EmbedError;
}

/**
 * Runs one request, from sending it to the last byte of its answer. Throws the signal's reason when aborted, EmbedError
 * `unavailable` after `timeoutMs`, even if the request pays no heed to its signal.
 */
export async function underDeadline<T>(run: (signal: AbortSignal) => Promise<T>, deadline: Deadline): Promise<T> {
  const { spec, timeoutMs, signal, toEmbedError } = deadline;
  signal?.throwIfAborted();
  // A controller of our own: clients' time-outs may end with the headers, and some never remove their listener from the
  // signal, which lives as long as the worker.
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, timeoutMs);
  signal?.addEventListener('abort', abort, { once: true });
  const aborted = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
  });
  aborted.catch(() => {}); // Also when nobody waits any more.
  try {
    return await Promise.race([run(controller.signal), aborted]);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof EmbedError) throw error;
    if (controller.signal.aborted) {
      throw new EmbedError('unavailable', `${spec} did not answer within ${timeoutMs} ms`);
    }
    throw toEmbedError(error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}
