import { MAX_ATTEMPTS } from '../claim/lease.js';
import { type Ending, settle } from '../claim/settle.js';
import { classify } from '../db/errors.js';
import type { WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import type { MadeVector } from './made-vector.js';
import type { Parked } from './parked.js';
import { endGone, settleUnpaid } from './settle-unpaid.js';
import type { WritingBatch } from './waiting-writes.js';
import { lineUp, nextInLine } from './waves.js';
import { writeChunk } from './write-chunk.js';
import { apart } from './write-refused.js';

/**
 * So many rows that somebody holds, one after the other, end a round. Fewer may be what is being written to another space
 * of the source just now: the workers of both come by the same rows in the same order.
 */
const MOST_HELD = 16;

/**
 * Writes a batch in transactions that hold their locks for a moment only, and ends the leases in those transactions. While
 * it waits its turn, the writes of another space to the same rows may take items of it along. Resolves to what could not be
 * written because the app holds the rows, or because of an `error` that says that the connection was lost; others are thrown.
 */
export async function writeVectors(
  context: DrainContext,
  embedded: EmbeddedTexts & Partial<Parked>,
): Promise<Parked & { readonly error?: unknown }> {
  const { token, priority, losses, items, unflushed = false } = embedded;
  const { store, waiting, report, cut } = context;
  const locked: MadeVector[] = [];
  let heldInRow = 0;
  let line = lineUp(items, context.indexed());
  // Rows that are to stay on their page would not, were an indexed vector of another space to change as well.
  const styles = {
    moving: { pace: context.pace, alone: false },
    staying: { pace: context.staying, alone: true },
  };
  const left = new Map(items.map((item) => [item.key, item]));
  const onWritten = (count: number) => {
    report.written += count;
  };
  const batch: WritingBatch = { store, token, priority, losses, left, unflushed, onWritten };
  waiting.offer(batch);
  try {
    await settleUnpaid(context, embedded);
    for (;;) {
      line = line.filter(({ row }) => left.has(row.key));
      if (line.length === 0) break;
      // The worker's time is up: what is parked is given back.
      if (cut.aborted) {
        locked.unshift(...left.values());
        break;
      }
      const { rows: chunk, style } = nextInLine(line, styles);
      const outcomes = await apart(context, token, chunk, (some) => writeChunk(context, batch, some, style));
      await endGone(context, token, outcomes);
      await endRestless(context, batch, outcomes);
      for (const { key } of chunk) left.delete(key); // Those that were set aside too.
      const held = chunk.filter(({ key }) => outcomes.get(key) === 'locked');
      locked.push(...held);
      heldInRow = held.length === chunk.length ? heldInRow + held.length : 0;
      // The app holds the whole table perhaps: the others are tried with the next round, and first.
      if (heldInRow >= MOST_HELD) {
        locked.unshift(...left.values());
        break;
      }
    }
    return { token, priority, losses, items: locked, unflushed: batch.unflushed };
  } catch (error) {
    if (classify(error) !== 'connection') throw error;
    const failingSince = embedded.failingSince ?? performance.now();
    return { token, priority, losses, items: [...locked, ...left.values()], unflushed: true, failingSince, error };
  } finally {
    waiting.withdraw(batch);
  }
}

/** How long a row waits whose own write made it stale, in seconds; doubled each time. */
const RESTLESS_WAIT_SECONDS = 0.25;

/**
 * Rows that a trigger of the app's makes stale in the write itself. One that makes texts tidy does so once; one that sets a
 * clock does so for ever, and the row is set aside before it is paid for without end.
 */
async function endRestless(
  { db, store, report }: DrainContext,
  { token, losses }: Pick<WritingBatch, 'token' | 'losses'>,
  outcomes: ReadonlyMap<string, WriteOutcome>,
): Promise<void> {
  const keys = [...outcomes].filter(([, outcome]) => outcome === 'restless').map(([key]) => key);
  if (keys.length === 0) return;
  const message = `An UPDATE trigger of yours changes the content whenever freshvec writes the vector. Take the column that it sets out of the content (\`freshvec source alter ${store.source.name}\`), or add the source with \`--store table\`.`;
  const endings = await db.tx(async (tx) => {
    const rows = await store.read(tx, keys);
    const ends = rows.map(({ key, hash }): Ending => {
      const times = losses.get(key) ?? 0;
      return times + 1 < MAX_ATTEMPTS
        ? { key, end: 'wait', seconds: RESTLESS_WAIT_SECONDS * 2 ** times, because: 'changed' }
        : { key, end: 'fail', code: 'never_at_rest', message, attempts: times + 1, hash };
    });
    await settle(tx, store.space.id, token, ends);
    return ends;
  });
  for (const { end } of endings) {
    if (end === 'fail') report.failed += 1;
    else report.delayed += 1;
  }
}
