import type { BackendFactory, IQueueBackend } from 'bullmq';

/** What differs between Redis, Postgres and PGlite: how BullMQ's classes get their connections, and how these end. */
export interface QueueBackend {
  readonly kind: 'redis' | 'postgres' | 'pglite';
  /** For adding: fails fast when there is no connection. */
  readonly producer: BackendFactory<IQueueBackend>;
  /** For taking: waits for the connection to come back. */
  readonly consumer: BackendFactory<IQueueBackend>;
  /** Called first: from here on nothing reconnects, so that what waits for a lost connection fails instead. */
  beforeClose(): Promise<void>;
  /** Called last: ends every connection, also those that BullMQ could not close. */
  close(): Promise<void>;
}

/** Passes errors on, each message at most once in a while: a lost connection is reported by every retry. */
export function throttled(onError: (error: Error) => void, everyMs = 30_000): (error: unknown) => void {
  const reported = new Map<string, number>();
  return (thrown) => {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const now = Date.now();
    for (const [message, at] of reported) if (now - at >= everyMs) reported.delete(message);
    if (reported.has(error.message)) return;
    reported.set(error.message, now);
    onError(error);
  };
}
