import { readFileSync } from 'node:fs';
import { createGates } from '../../src/budget/gates.js';
import { Connection } from '../../src/client/connection.js';
import { reembedDeps } from '../../src/client/reembed-deps.js';
import { loadConfig } from '../../src/config/load.js';
import { openPostgres } from '../../src/db/postgres.js';
import { openQueue } from '../../src/queue/open.js';
import { createModels } from '../../src/worker/models.js';
import { drainOnce } from '../../src/worker/once.js';
import { startReembedder } from '../../src/worker/reembed.js';
import { startWorker } from '../../src/worker/run.js';
import type { FromWorker, ToWorker, WorkerSettings } from './worker.js';

/** The process behind `WorkerProcess`. Slots, keys and connections are the defaults of `src/config`. */
const SLOTS = 3;
const BATCH_KEYS = 200;

interface Running {
  drain(): Promise<FromWorker>;
  stop(): Promise<void>;
}

let running: Running | undefined;

// A bench that is gone has no use for its worker.
process.on('disconnect', () => process.exit());
process.on('message', (message: ToWorker) => {
  obey(message).then(answer, (error: unknown) => {
    complain(error);
    process.exit(1);
  });
});

async function obey(message: ToWorker): Promise<FromWorker> {
  if (typeof message !== 'string') {
    running = await start(message.start);
    return 'ready';
  }
  if (!running) throw new Error('not started');
  if (message === 'drain') return running.drain();
  const peakRssMb = peakRss();
  await running.stop();
  setImmediate(() => process.disconnect());
  return { peakRssMb };
}

async function start({ url, mode, reembed, redisUrl, latencyMs = 0, baseUrl }: WorkerSettings): Promise<Running> {
  const onError = complain;
  const db = openPostgres({ url, poolSize: 2 * SLOTS + 4, applicationName: 'freshvec', onError });
  const models = createModels({ requestTimeoutMs: 30_000, fake: { latencyMs }, openai: { baseUrl } });
  const common = { db, models, gates: createGates(db, {}, onError), slots: SLOTS, batchKeys: BATCH_KEYS };
  const closeAll = async () => {
    await models.close();
    await db.close();
  };
  if (mode === 'serve') {
    const target =
      redisUrl === undefined ? { backend: 'postgres' as const, url } : { backend: 'redis' as const, redisUrl };
    const queue = await openQueue(target, { onError });
    const worker = await startWorker({ ...common, queue, graceMs: 2_000, onError });
    const reembedder = reembed ? await startReembed(url, redisUrl) : undefined;
    return {
      drain: () => Promise.reject(new Error('this worker serves')),
      async stop() {
        await Promise.all([worker.stop(), reembedder?.stop()]);
        await closeAll();
      },
    };
  }
  return {
    async drain() {
      const began = performance.now();
      const drained = await drainOnce({ ...common, signal: new AbortController().signal });
      return { drained, ms: performance.now() - began };
    },
    stop: closeAll,
  };
}

/**
 * The role `reembed` as `freshvec run` has it, over a connection of its own, but for the gate `recall`: vectors of the
 * model `fake` are random, and no index finds the nearest of what has no neighbours.
 */
async function startReembed(url: string, redisUrl: string | undefined): Promise<{ stop(): Promise<void> }> {
  const backend = redisUrl === undefined ? 'postgres' : 'redis';
  const env = { DATABASE_URL: url, FRESHVEC_QUEUE_BACKEND: backend, REDIS_URL: redisUrl };
  const config = await loadConfig({ env, file: false });
  const reembed = { ...config.reembed, gates: { ...config.reembed.gates, recall: 0 } };
  const connection = new Connection({ ...config, reembed }, complain);
  const deps = await reembedDeps(connection);
  const reembedder = await startReembedder({ ...deps, queue: await connection.queue(), onError: complain });
  return {
    async stop() {
      await reembedder.stop();
      await deps.close();
      await connection.close();
    },
  };
}

/** VmHWM: getrusage's maximum would count what the parent held when it forked. */
function peakRss(): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
}

function answer(message: FromWorker): void {
  if (process.connected) process.send?.(message);
}

function complain(error: unknown): void {
  answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
}
