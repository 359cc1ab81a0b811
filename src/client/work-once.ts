import { listSources } from '../catalog/source.js';
import type { Database } from '../db/database.js';
import type { DrainReport } from '../stages/context.js';
import { listRemaining, remainingKeys } from '../status/pending.js';
import { sourceStatus } from '../status/status.js';
import { maintainOnce } from '../worker/maintain.js';
import { addReport, drainOnce } from '../worker/once.js';
import { reembedOnce } from '../worker/reembed-once.js';
import type { Connection } from './connection.js';
import { reembedDeps } from './reembed-deps.js';

export interface WorkProgress {
  /** Keys done so far. About, like the others, while the pages of a first load are among what remains. */
  readonly done: number;
  readonly remaining: number;
  /** What remained at the start, or more if more came in. */
  readonly total: number;
}

export interface WorkReport extends DrainReport {
  /** Keys that are still waiting: the provider is away, or the app holds the rows, or more came in meanwhile. */
  readonly remaining: number;
}

export interface WorkOnceOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: WorkProgress) => void) | undefined;
}

/** How often progress is looked up, in ms. */
const PROGRESS_MS = 500;

/** Drains until nothing is left that can be done, migrations included, then builds the indexes that wait for that. */
export async function workOnce(connection: Connection, options: WorkOnceOptions): Promise<WorkReport> {
  const { onProgress, signal = new AbortController().signal } = options;
  const { models, config } = connection;
  const { slots, batchKeys } = config.worker;
  const db = await connection.ready();
  const look = onProgress ? await progressLook(db, onProgress) : () => remainingKeys(db);
  const stopLooking = onProgress ? repeat(look, PROGRESS_MS) : async () => {};
  try {
    const gates = await connection.gates();
    const drain = () => drainOnce({ db, models, gates, cached: config.cache.maxBytes > 0, slots, batchKeys, signal });
    const report = await drain();
    const deps = await reembedDeps(connection);
    await reembedOnce(deps, async () => addReport(report, await drain()), signal).finally(() => deps.close());
    if (!signal.aborted) await maintainOnce({ db, signal, cacheMaxBytes: config.cache.maxBytes });
    return { ...report, remaining: await look() };
  } finally {
    await stopLooking();
  }
}

/** Tells the progress and resolves to what remains. */
async function progressLook(db: Database, tell: (progress: WorkProgress) => void): Promise<() => Promise<number>> {
  const shares = await sharesOfPages(db);
  let total = 0;
  const look = async () => {
    const remaining = await remainingKeys(db, ({ sourceId }) => shares.get(sourceId) ?? 1);
    total = Math.max(total, remaining);
    tell({ done: total - remaining, remaining, total });
    return remaining;
  };
  await look();
  return look;
}

/**
 * Of the rows on pages that were not visited yet, how many want a vector, by source: a filter may leave few. What is known
 * exactly at the start corrects what is estimated later.
 */
async function sharesOfPages(db: Database): Promise<Map<number, number>> {
  const shares = new Map<number, number>();
  const remaining = (await listRemaining(db)).filter(({ unvisited }) => unvisited > 0);
  if (remaining.length === 0) return shares;
  const { sources } = await sourceStatus(db);
  const ids = new Map((await listSources(db)).map(({ id, name }) => [name, id]));
  for (const { source, rows, stale } of sources) {
    const id = ids.get(source);
    const [of] = remaining.filter(({ space }) => space.sourceId === id).sort((a, b) => b.unvisited - a.unvisited);
    if (id === undefined || of === undefined) continue;
    const wanted = of.space.state === 'live' ? stale - of.keys : rows;
    shares.set(id, Math.min(1, Math.max(0, wanted / of.unvisited)));
  }
  return shares;
}

/** Runs `task` again and again, never twice at a time; resolves its stop when the last run has ended. */
function repeat(task: () => Promise<unknown>, everyMs: number): () => Promise<void> {
  let running: Promise<unknown> | undefined;
  const timer = setInterval(() => {
    running ??= task()
      .catch(() => {}) // Progress only; the work itself reports what is wrong.
      .finally(() => {
        running = undefined;
      });
  }, everyMs);
  return async () => {
    clearInterval(timer);
    await running;
  };
}
