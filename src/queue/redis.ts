import { setTimeout as sleep } from 'node:timers/promises';
import { type BackendFactory, createRedisBackend, type IQueueBackend } from 'bullmq';
import { Redis, type RedisOptions } from 'ioredis';
import { FreshvecError } from '../db/errors.js';
import type { QueueBackend } from './backend.js';

export interface RedisQueueOptions {
  readonly backend: 'redis';
  readonly redisUrl: string;
  /** What every key begins with; `freshvec` by default. */
  readonly prefix?: string | undefined;
}

type Options = Omit<RedisOptions, 'replyMapping'>;

const CONNECT_MS = 2_000;
const COMMAND_MS = 1_000;
const LONGEST_PAUSE_MS = 1_000;
/** A connection that is being made when we close ends by its own time-out. */
const SETTLE_MS = CONNECT_MS + LONGEST_PAUSE_MS;

/** BullMQ on Redis. Never waits for the connection: Redis may be away for as long as it likes. */
export function redisBackend(options: RedisQueueOptions, onError: (error: unknown) => void): QueueBackend {
  const clients = new Set<Redis>();
  let closing = false;
  const retryStrategy = (times: number) => (closing ? null : Math.min(50 * 2 ** Math.min(times, 10), LONGEST_PAUSE_MS));

  /** BullMQ makes the blocking connection by `duplicate`; so that we can end it, we must know it. */
  class Tracked extends Redis {
    constructor(clientOptions: Options) {
      super(options.redisUrl, clientOptions);
      this.on('error', onError);
      clients.add(this);
    }
    override duplicate<Override extends Partial<RedisOptions> | undefined = undefined>(override?: Override) {
      const copy = super.duplicate(override);
      copy.on('error', onError);
      clients.add(copy as Redis);
      return copy;
    }
  }

  const common: Options = { connectTimeout: CONNECT_MS, retryStrategy };
  const factory =
    (connectionOptions: Options): BackendFactory<IQueueBackend> =>
    (name, opts, extra) => {
      const connection = new Tracked({ ...common, ...connectionOptions });
      // Its version check costs an INFO whose failure would break the object for good; the policy is checked below.
      const settings = { ...opts, prefix: options.prefix ?? 'freshvec', skipVersionCheck: true };
      return createRedisBackend(name, { ...settings, connection }, extra);
    };

  const policy = new Tracked({ ...common, maxRetriesPerRequest: null });
  void checkPolicy(policy).catch(onError);

  return {
    kind: 'redis',
    producer: factory({ enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: COMMAND_MS }),
    consumer: factory({ maxRetriesPerRequest: null }),
    async beforeClose() {
      closing = true;
      const deadline = Date.now() + SETTLE_MS;
      const unsettled = () => [...clients].some(({ status }) => status !== 'ready' && status !== 'end');
      while (unsettled() && Date.now() < deadline) await sleep(20);
    },
    async close() {
      for (const client of clients) client.disconnect();
    },
  };
}

/** An evicting Redis may drop a queue's keys; that loses wake-ups only, but it is not what anybody wants. */
async function checkPolicy(client: Redis): Promise<void> {
  try {
    const info = String(await client.info('memory'));
    const policy = /maxmemory_policy:(\S+)/.exec(info)?.[1];
    if (policy === undefined || policy === 'noeviction') return;
    throw new FreshvecError(
      'redis_evicts',
      `Redis evicts keys (maxmemory-policy ${policy}), the queue's too: set maxmemory-policy noeviction, ` +
        'and give caches a Redis of their own (CACHE_REDIS_URL).',
    );
  } finally {
    client.disconnect();
  }
}
