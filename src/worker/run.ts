import { hostname } from 'node:os';
import pLimit from 'p-limit';
import type { Priority } from '../embed/gate.js';
import type { Queue } from '../queue/port.js';
import { type DrainReport, emptyReport } from '../stages/context.js';
import { Doorbell } from './doorbell.js';
import { Drainer, type DrainerOptions } from './drainer.js';

export interface WorkerOptions extends Omit<DrainerOptions, 'worker'> {
  readonly queue: Queue;
  /** Drains at a time in this process. */
  readonly slots: number;
  /** From `stop()` to the last lease given back, in ms. */
  readonly graceMs: number;
  readonly onError: (error: unknown) => void;
  readonly onReport?: ((spaceId: number, report: DrainReport) => void) | undefined;
}

export interface Worker {
  /** Stops claiming, finishes or gives back what is in hand, and resolves within the grace time. */
  stop(): Promise<void>;
}

/** Drains of one space that the whole fleet runs at a time, at most. */
const MAX_FLEET_SLOTS = 64;

/** A drain gives its slot up after this long, in ms, so that a long first load does not keep another space's edits waiting. */
const SLICE_MS = 2000;

/** How soon a drain that failed, or whose space rests, is tried again for what it still holds, in ms. */
const AFTER_FAILURE_MS = 1000;

/**
 * A wake-up whose drain has not begun here for so long, in ms, though it is asked for again and again, and this process
 * has nothing else to do: a worker that died keeps its job locked for up to 15 s, and the drain is begun without it.
 * Where a live worker has the job, the leases see to it that the two do not work on the same keys.
 */
const UNHEARD_MS = 2000;
/** Longer than between two looks of the doorbell while there is work, in ms. */
const ASKED_AGAIN_MS = 1500;

/** The name under which this process holds leases. */
export function workerName(): string {
  return `${hostname()}:${process.pid}`;
}

/** Starts a worker: consumes wake-ups, rings its own doorbell, and keeps working when the queue is gone. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { db, queue, slots, onError } = options;
  const drainer = new Drainer({ ...options, worker: workerName() });
  const stop = new AbortController();
  const cut = new AbortController();
  const running = new Set<Promise<void>>();
  const local = pLimit(slots);
  /** Wake-ups by space that no drain has answered here yet. */
  const unheard = new Map<number, { readonly since: number; readonly last: number }>();

  async function drain(spaceId: number, slot: number): Promise<void> {
    if (stop.signal.aborted) return;
    unheard.delete(spaceId);
    const moreThanOne = (priority: Priority) => {
      // A first load leaves a slot to the edits of other spaces.
      if (priority === 'load' && slots > 1 && running.size >= slots - 1) return;
      if (slot + 1 < MAX_FLEET_SLOTS) void queue.wake({ spaceId, slot: slot + 1 }).catch(onError);
    };
    const slice = AbortSignal.timeout(SLICE_MS);
    const report = emptyReport();
    let failed = false;
    const run = drainer
      .drain(spaceId, { stop: AbortSignal.any([stop.signal, slice]), cut: cut.signal, moreThanOne }, report)
      .catch((error) => {
        failed = true;
        if (error !== cut.signal.reason) onError(error); // Told to end: no news.
      })
      .then(() => options.onReport?.(spaceId, report)); // What was done before a failure counts too.
    running.add(run);
    await run.finally(() => running.delete(run));
    const parked = drainer.parkedSpaces().includes(spaceId);
    if (stop.signal.aborted || !(slice.aborted || parked)) return;
    // While the space rests a drain would return at once, and ask for the next.
    const restMs = Math.max(drainer.restsMs(spaceId), failed ? AFTER_FAILURE_MS : 0);
    const again = () => {
      if (stop.signal.aborted) return;
      // What is parked is in this process's memory: another one that is woken would find nothing to do.
      if (parked) void local(() => drain(spaceId, slot)).catch(onError);
      else wake(spaceId, slot).catch(onError);
    };
    if (restMs === 0) again();
    else setTimeout(again, restMs).unref();
  }

  async function wake(spaceId: number, slot: number): Promise<void> {
    if (await queue.wake({ spaceId, slot })) return;
    // The queue is out of reach: work without it, as many drains as this process has slots.
    if (local.activeCount < slots) void local(() => drain(spaceId, slot)).catch(onError);
  }

  /** True when the queue keeps the space's drain from an idle process. */
  function goesUnheard(spaceId: number): boolean {
    const now = performance.now();
    const before = unheard.get(spaceId);
    const since = before && now - before.last < ASKED_AGAIN_MS ? before.since : now;
    unheard.set(spaceId, { since, last: now });
    return running.size === 0 && now - since > UNHEARD_MS;
  }

  const doorbell = new Doorbell({
    db,
    onError,
    wake: async (spaceId) => {
      if (drainer.restsMs(spaceId) > 0) return;
      if (goesUnheard(spaceId)) void local(() => drain(spaceId, 0)).catch(onError);
      else await wake(spaceId, 0);
    },
  });
  await queue.work({ drain: ({ spaceId, slot }) => drain(spaceId, slot) }, { concurrency: slots });
  await doorbell.start();

  return {
    async stop() {
      stop.abort();
      const timer = setTimeout(() => cut.abort(), options.graceMs / 2);
      await Promise.allSettled([doorbell.stop(), queue.close(), ...running]);
      clearTimeout(timer);
      await drainer.close();
    },
  };
}
