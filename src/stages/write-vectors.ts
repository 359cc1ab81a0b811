import { type Ending, settle } from '../claim/settle.js';
import type { Executor } from '../db/database.js';
import type { WriteItem, WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embed-texts.js';

/** Longest wait of a key whose text keeps changing under the worker, in seconds. */
const MAX_CHANGED_WAIT_SECONDS = 30;
/** How soon a row that wants no payment is asked for again when somebody holds it, in seconds. */
const LOCKED_WAIT_SECONDS = 0.25;

/** Vectors whose rows the app holds locked: kept under their lease, and written when the app lets go. */
export interface Parked {
  readonly token: string;
  readonly losses: ReadonlyMap<string, number>;
  readonly items: readonly WriteItem[];
}

/**
 * Writes a batch in transactions that hold their locks for a moment only, and ends the leases in those transactions.
 * Resolves to what could not be written because the app holds the rows.
 */
export async function writeVectors(context: DrainContext, batch: EmbeddedTexts): Promise<Parked> {
  const { db, store, report } = context;
  const locked: WriteItem[] = [];
  await settleUnpaid(context, batch);
  let at = 0;
  while (at < batch.items.length) {
    const chunk = batch.items.slice(at, at + context.pace.rows());
    at += chunk.length;
    const outcomes = await db.tx(async (tx) => {
      const began = performance.now();
      const result = await store.write(tx, batch.token, chunk);
      const endings = chunk.flatMap(({ key }) => endingOf(key, result.get(key) ?? 'lost', batch.losses.get(key) ?? 0));
      await settle(tx, store.space.id, batch.token, endings);
      context.pace.observe(chunk.length, performance.now() - began);
      return result;
    });
    for (const item of chunk) {
      const outcome = outcomes.get(item.key);
      if (outcome === 'written') report.written += 1;
      else if (outcome === 'locked') locked.push(item);
      else report.delayed += outcome === 'changed' ? 1 : 0;
    }
  }
  return { token: batch.token, losses: batch.losses, items: locked };
}

/** What an outcome does to the lease; a locked row keeps it, a lost lease is not ours to end. */
function endingOf(key: string, outcome: WriteOutcome, losses: number): Ending[] {
  switch (outcome) {
    case 'written':
    case 'gone':
      return [{ key, end: 'done' }];
    case 'changed':
      return [{ key, end: 'wait', seconds: changedWaitSeconds(losses), because: 'changed' }];
    case 'locked':
    case 'lost':
      return [];
  }
}

/** Doubles with every write lost in a row, so that an autosaving editor is not paid for at every keystroke. */
function changedWaitSeconds(losses: number): number {
  return Math.min(0.1 * 2 ** losses, MAX_CHANGED_WAIT_SECONDS);
}

/** Ends what costs nothing: rows that are fresh, gone, rejected or delayed, flags to lower, vectors to take away. */
async function settleUnpaid(context: DrainContext, batch: EmbeddedTexts): Promise<void> {
  const { db, store, report } = context;
  const { token, confirm, remove, endings } = batch;
  if (endings.length + confirm.length + remove.length === 0) return;
  await db.tx(async (tx: Executor) => {
    const outcomes = new Map([
      ...(confirm.length > 0 ? await store.confirm(tx, token, confirm) : []),
      ...(remove.length > 0 ? await store.remove(tx, token, remove) : []),
    ]);
    const tidied = [...outcomes].map(
      ([key, outcome]): Ending =>
        outcome === 'written' || outcome === 'gone'
          ? { key, end: 'done' }
          : { key, end: 'wait', seconds: LOCKED_WAIT_SECONDS, because: 'delay' },
    );
    await settle(tx, store.space.id, token, [...endings, ...tidied]);
  });
  report.unpaid += confirm.length + remove.length;
  for (const { end } of endings) {
    if (end === 'fail') report.failed += 1;
    else if (end === 'wait') report.delayed += 1;
    else report.unpaid += 1;
  }
}
