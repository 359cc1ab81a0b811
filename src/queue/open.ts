import { type QueueBackend, throttled } from './backend.js';
import type { PgliteQueueOptions } from './pglite-pool.js';
import type { Queue } from './port.js';
import type { PostgresQueueOptions } from './postgres.js';
import { BullmqQueue } from './queue.js';
import type { RedisQueueOptions } from './redis.js';

export type QueueOptions = RedisQueueOptions | PostgresQueueOptions | PgliteQueueOptions;

export interface QueueSettings {
  /** Names this process's workers to BullMQ's tools. */
  readonly name?: string | undefined;
  /** Errors that belong to no call, and those of handlers; the same message at most every 30 s. */
  readonly onError: (error: Error) => void;
}

/** Opens the queue. A Redis that is away does not keep it from opening, PostgreSQL must answer (it holds the truth). */
export async function openQueue(options: QueueOptions, settings: QueueSettings): Promise<Queue> {
  const onError = throttled(settings.onError);
  const backend = await openBackend(options, onError);
  const queue = new BullmqQueue(backend, settings.name, onError);
  await queue.start();
  return queue;
}

/** Loads only the driver that is used. */
async function openBackend(options: QueueOptions, onError: (error: unknown) => void): Promise<QueueBackend> {
  switch (options.backend) {
    case 'redis':
      return (await import('./redis.js')).redisBackend(options, onError);
    case 'postgres':
      return (await import('./postgres.js')).postgresBackend(options, onError);
    case 'pglite':
      return (await import('./pglite-pool.js')).pgliteBackend(options, onError);
  }
}
