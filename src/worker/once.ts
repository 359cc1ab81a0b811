import { setTimeout as sleep } from 'node:timers/promises';
import { lookForWork, nextDueMs } from '../claim/pending.js';
import { FreshvecError } from '../db/errors.js';
import { type DrainReport, emptyReport } from '../stages/context.js';
import { Drainer, type DrainerOptions } from './drainer.js';
import { workerName } from './run.js';

export interface OnceOptions extends Omit<DrainerOptions, 'worker'> {
  readonly slots: number;
  readonly signal: AbortSignal;
  readonly onProgress?: ((report: DrainReport) => void) | undefined;
}

/** How long keys that wait (locked rows, a provider's pause) are waited for while nothing else gets done, in ms. */
const PATIENCE_MS = 60_000;

/** A drain gives way to the other spaces after so long, in ms: it does not end while the app holds a row of it. */
const SLICE_MS = 10_000;

/**
 * Drains every space until nothing is left that can be done. Needs no queue: the work is in Postgres, and the queue
 * only wakes. Keys that wait for the app or the provider are waited for up to a minute. A space that fails keeps nobody
 * from the others; what it failed with is thrown in the end.
 */
export async function drainOnce(options: OnceOptions): Promise<DrainReport> {
  const { db, slots, signal, onProgress } = options;
  const drainer = new Drainer({ ...options, worker: workerName() });
  const total = emptyReport();
  const failed = new Map<number, unknown>();
  let progressAt = performance.now();
  try {
    while (!signal.aborted) {
      drainer.lookAgain();
      const look = await lookForWork(db, 0);
      const spaceIds = [...new Set([...look.spaceIds, ...drainer.parkedSpaces()])].filter((id) => !failed.has(id));
      for (const spaceId of spaceIds) {
        try {
          const reports = await drainSlots(drainer, spaceId, slots, signal);
          for (const report of reports) addReport(total, report);
          if (reports.some(({ visited, claimed, written }) => visited + claimed + written > 0))
            progressAt = performance.now();
          onProgress?.(total);
        } catch (error) {
          failed.set(spaceId, error);
        }
      }
      const left = spaceIds.filter((id) => !failed.has(id));
      const dueMs = await nextDueMs(db, [...failed.keys()]);
      if (left.length === 0 && dueMs === undefined) break;
      if (performance.now() - progressAt > PATIENCE_MS) break;
      const loadRestMs = Math.min(...left.map((id) => drainer.loadRestsMs(id)));
      const waitMs = Math.max(0, ...left.map((id) => drainer.restsMs(id)), Math.min(dueMs ?? loadRestMs, 1000));
      await sleep(Math.max(waitMs, 5), undefined, { signal }).catch(() => {});
    }
  } finally {
    await drainer.close();
  }
  if (failed.size > 0) throw asOne([...failed.values()]);
  return total;
}

/** What several spaces failed with, with the first one's code. */
function asOne(errors: readonly unknown[]): unknown {
  const [first] = errors;
  if (errors.length === 1) return first;
  const message = [...new Set(errors.map((error) => (error instanceof Error ? error.message : String(error))))].join(
    '\n',
  );
  return first instanceof FreshvecError ? new FreshvecError(first.code, message) : new AggregateError(errors, message);
}

/** Fills the slots as far as there is work for more than one, and waits for them all, whether or not one fails. */
async function drainSlots(
  drainer: Drainer,
  spaceId: number,
  slots: number,
  signal: AbortSignal,
): Promise<DrainReport[]> {
  const runs: Promise<DrainReport>[] = [];
  const startAnother = () => {
    if (runs.length >= slots) return;
    let woken = false;
    const moreThanOne = () => {
      if (woken) return;
      woken = true;
      startAnother();
    };
    // Not `AbortSignal.timeout`: nothing but the joint signal would hold it, and that does so weakly.
    const slice = new AbortController();
    const timer = setTimeout(() => slice.abort(), SLICE_MS);
    const stop = AbortSignal.any([signal, slice.signal]);
    const run = drainer.drain(spaceId, { stop, cut: signal, moreThanOne }).finally(() => clearTimeout(timer));
    run.catch(() => {}); // Seen below: it may fail before it is waited for, which would end the process.
    runs.push(run);
  };
  startAnother();
  let ended: PromiseSettledResult<DrainReport>[];
  do ended = await Promise.allSettled(runs);
  while (ended.length < runs.length);
  // Nobody waits for edits here.
  await drainer.longVisitEnded(spaceId);
  return Promise.all(runs);
}

/** Adds what another drain did. */
export function addReport(total: DrainReport, part: DrainReport): void {
  for (const name of Object.keys(total) as (keyof DrainReport)[]) total[name] += part[name];
}
