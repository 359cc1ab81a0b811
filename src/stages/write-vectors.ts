import { MAX_ATTEMPTS } from '../claim/lease.js';
import { type Ending, settle } from '../claim/settle.js';
import { classify, isOfOneRow, sqlState } from '../db/errors.js';
import type { Store, WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import type { MadeVector } from './made-vector.js';
import type { Parked } from './parked.js';
import { settleRefused } from './refuse-long.js';
import type { WritingBatch } from './waiting-writes.js';
import { lineUp, nextInLine } from './waves.js';
import { writeChunk } from './write-chunk.js';

/** How soon a row that wants no payment is asked for again when somebody holds it, in seconds. */
const LOCKED_WAIT_SECONDS = 0.25;

/**
 * So many rows that somebody holds, one after the other, end a round. Fewer may be what is being written to another space
 * of the source just now: the workers of both come by the same rows in the same order.
 */
const MOST_HELD = 16;

/**
 * Writes a batch in transactions that hold their locks for a moment only, and ends the leases in those transactions. While
 * it waits its turn, the writes of another space to the same rows may take items of it along. Resolves to what could not be
 * written because the app holds the rows, and whether anything did not wait for the disk.
 */
export async function writeVectors(context: DrainContext, embedded: EmbeddedTexts & Partial<Parked>): Promise<Parked> {
  const { token, priority, losses, items, unflushed = false } = embedded;
  const { store, waiting, report, cut } = context;
  const locked: MadeVector[] = [];
  let heldInRow = 0;
  await settleUnpaid(context, embedded);
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
  } finally {
    waiting.withdraw(batch);
  }
}

/** How often a transaction that a deadlock or a moved row ended is run again at once: its vectors are paid for. */
const RETRIES = 3;

/** Retried where PostgreSQL says so, charged to nobody. */
async function retried<T>(run: () => Promise<T>): Promise<T> {
  for (let left = RETRIES; ; left--) {
    try {
      return await run();
    } catch (error) {
      if (left === 0 || classify(error) !== 'retry') throw error;
    }
  }
}

/** A row to be written, or tidied. */
type Written = { readonly key: string; readonly hash: string | null };

/** Where so many rows in a row are refused, and none is taken, it is not for what one of them says. */
const MOST_REFUSED = 16;

/**
 * Runs `write` with all rows; where the table refuses one of them (a constraint, a trigger of the app's), that one is
 * found by halving and set aside as a failure, and keeps nobody from the others. Throws where it refuses all.
 */
async function apart<R extends Written>(
  context: DrainContext,
  token: string,
  rows: readonly R[],
  write: (rows: readonly R[]) => Promise<ReadonlyMap<string, WriteOutcome>>,
): Promise<Map<string, WriteOutcome>> {
  const outcomes = new Map<string, WriteOutcome>();
  const refused: { readonly row: R; readonly error: unknown }[] = [];
  const attempt = async (some: readonly R[]): Promise<void> => {
    try {
      for (const [key, outcome] of await retried(() => write(some))) outcomes.set(key, outcome);
    } catch (error) {
      const [row] = some;
      if (row === undefined || !isOfOneRow(error)) throw error;
      if (some.length === 1) refused.push({ row, error });
      if (outcomes.size === 0 && refused.length >= MOST_REFUSED) throw error;
      if (some.length === 1) return;
      const middle = some.length >> 1;
      await attempt(some.slice(0, middle));
      await attempt(some.slice(middle));
    }
  };
  await attempt(rows);
  for (const { row, error } of refused) await setAside(context, token, row, sqlState(error));
  return outcomes;
}

/** PostgreSQL's own message is left out: it quotes the content. */
async function setAside(
  { db, store, report }: DrainContext,
  token: string,
  { key, hash }: Written,
  state: string | undefined,
): Promise<void> {
  const message = `The table refuses an update of this row (SQLSTATE ${state}): a constraint or a trigger of yours. Mend the row, then \`freshvec failures retry ${store.source.name}\`.`;
  const failure: Ending = { key, end: 'fail', code: 'write_refused', message, attempts: 1, hash };
  await db.tx((tx) => settle(tx, store.space.id, token, [failure]));
  report.failed += 1;
}

/** Rows that are gone end in a transaction of their own: their leases were not locked by the write. */
async function endGone(
  { db, store }: Pick<DrainContext, 'db' | 'store'>,
  token: string,
  outcomes: ReadonlyMap<string, WriteOutcome>,
): Promise<void> {
  const gone = [...outcomes]
    .filter(([, outcome]) => outcome === 'gone')
    .map(([key]): Ending => ({ key, end: 'done', vector: 'none' }));
  if (gone.length > 0) await db.tx((tx) => settle(tx, store.space.id, token, gone));
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

/**
 * Ends what costs nothing: rows that are fresh, gone, rejected or delayed, flags to lower, vectors to take away. Where a
 * table's index is in use that is a write like any other.
 */
async function settleUnpaid(context: DrainContext, batch: EmbeddedTexts): Promise<void> {
  const { db, store, report } = context;
  const { token, confirm, remove, refused, endings } = batch;
  const waiting: Ending[] = [];
  const later = (key: string) => waiting.push({ key, end: 'wait', seconds: LOCKED_WAIT_SECONDS, because: 'delay' });
  for (const [keys, tidy, vector] of [
    [confirm, store.confirm, undefined],
    [remove, store.remove, 'none'],
  ] as const) {
    const outcomes = await tidyAll(context, batch, keys, tidy, vector);
    await endGone(context, token, outcomes);
    for (const key of keys) {
      const outcome = outcomes.get(key);
      if (outcome === undefined || outcome === 'changed' || outcome === 'locked') later(key);
    }
  }
  report.unpaid += confirm.length + remove.length - waiting.length;
  const outcomes = await settleRefused(context, token, refused);
  await endGone(context, token, outcomes);
  for (const outcome of outcomes.values()) if (outcome === 'written' || outcome === 'changed') report.failed += 1;
  for (const [key, outcome] of outcomes) if (outcome === 'locked') later(key);
  const rest = [...endings, ...waiting];
  if (rest.length > 0) await db.tx((tx) => settle(tx, store.space.id, token, rest));
  for (const { end } of rest) {
    if (end === 'fail') report.failed += 1;
    else if (end === 'wait') report.delayed += 1;
    else report.unpaid += 1;
  }
}

/**
 * Tidies rows in transactions as large as the pace allows, each in its turn. Those that were set aside are `lost`; those
 * that the worker's time was up for are not in the answer.
 */
async function tidyAll(
  context: DrainContext,
  { token, priority }: Pick<EmbeddedTexts, 'token' | 'priority'>,
  keys: readonly string[],
  tidy: Store['confirm'],
  vector: 'none' | undefined,
): Promise<Map<string, WriteOutcome>> {
  const { db, store, pace, writeGate, cut } = context;
  const tidyRows = (rows: readonly Written[]) =>
    writeGate(priority, async () => {
      let began = 0;
      const tidied = await db.tx(async (tx) => {
        began = performance.now();
        const some = await tidy(
          tx,
          token,
          rows.map(({ key }) => key),
        );
        await settle(tx, store.space.id, token, written(some, vector));
        return some;
      });
      // Locks last until the commit is done.
      pace.observe(written(tidied, vector).length, performance.now() - began);
      return tidied;
    });
  const outcomes = new Map<string, WriteOutcome>();
  for (let done = 0; done < keys.length && !cut.aborted; ) {
    const chunk = keys.slice(done, done + pace.rows()).map((key): Written => ({ key, hash: null }));
    const tidied = await apart(context, token, chunk, tidyRows);
    for (const { key } of chunk) outcomes.set(key, tidied.get(key) ?? 'lost');
    done += chunk.length;
  }
  return outcomes;
}

function written(outcomes: ReadonlyMap<string, WriteOutcome>, vector: 'none' | undefined): Ending[] {
  return [...outcomes].flatMap(([key, outcome]) => (outcome === 'written' ? [{ key, end: 'done', vector }] : []));
}
