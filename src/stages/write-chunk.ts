import { holdDefinition } from '../catalog/source.js';
import { type Ending, endingSql, type NewVector, settle } from '../claim/settle.js';
import type { Executor } from '../db/database.js';
import type { Store, WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { MadeVector } from './made-vector.js';
import type { Pace } from './pace.js';
import type { Companions, WritingBatch } from './waiting-writes.js';
import { vetoed } from './write-refused.js';

/** Longest wait of a key whose text keeps changing under the worker, in seconds. */
const MAX_CHANGED_WAIT_SECONDS = 30;

/** What one transaction did. */
interface Done {
  readonly outcomes: ReadonlyMap<string, WriteOutcome>;
  readonly ends: readonly Ending[];
  /** Keys whose rows got the other space's vector too. */
  readonly along: readonly string[];
  readonly lagSeconds: readonly number[];
  /** How long it held its locks, which last until the commit is done. */
  readonly heldMs: number;
}

/** How a chunk is written: in the measure of this pace, and with what another space has ready, or alone. */
export interface ChunkStyle {
  readonly pace: Pace;
  readonly alone: boolean;
}

/**
 * Writes what is left of a chunk once its turn has come: in one statement, and what that did not write in a second
 * transaction, which tells why. Resolves to what became of its rows, those included that another space's write took along
 * meanwhile.
 */
export async function writeChunk(
  context: DrainContext,
  batch: WritingBatch,
  chunk: readonly MadeVector[],
  { pace, alone }: ChunkStyle,
): Promise<ReadonlyMap<string, WriteOutcome>> {
  const { store, report, writeGate, observer } = context;
  const { source } = store;
  return writeGate(batch.priority, async () => {
    const outcomes = new Map(chunk.map(({ key }): [string, WriteOutcome] => [key, 'written']));
    const told = new Set<string>();
    const note = (done: Done) => {
      observer?.written({ source: source.name, seconds: done.heldMs / 1000 });
      observer?.settled({ source: source.name, lagSeconds: done.lagSeconds });
      for (const { end } of done.ends) {
        if (end === 'done') report.written += 1;
        else if (end === 'fail') report.failed += 1;
        else report.delayed += 1;
      }
      for (const [key, outcome] of done.outcomes) {
        outcomes.set(key, outcome);
        told.add(key);
        // The others are not done with: should something fail before they are seen to, they are still to be written.
        if (outcome !== 'locked' && outcome !== 'restless') batch.left.delete(key);
      }
    };
    const items = chunk.filter(({ key }) => batch.left.has(key));
    if (items.length === 0) return outcomes;
    const companions = alone || context.indexed() === 'none' ? undefined : context.waiting.beside(store, items);
    const done = companions ? await together(context, batch, items, companions) : await atOnce(context, batch, items);
    note(done);
    // Rows that were not written cost next to nothing and tell nothing.
    pace.observe(done.ends.filter(({ end }) => end === 'done').length, done.heldMs);
    const rest = items.filter(({ key }) => !told.has(key));
    if (rest.length > 0) note(await transaction(context, batch, rest));
    return outcomes;
  });
}

/** One statement, along with BEGIN and COMMIT. Of what it did not write it says nothing. */
async function atOnce(context: DrainContext, batch: WritingBatch, items: readonly MadeVector[]): Promise<Done> {
  const { db, store } = context;
  const vectors = new Map(items.map(({ key, long }): [string, NewVector] => [key, long ?? 'whole']));
  const dropping = { spaceId: store.space.id, vectors, healed: true };
  const options = { flushed: flushes(context, batch, items), eager: true };
  let askedAt = 0;
  let answeredAt = 0;
  const settled = await db.tx(async (tx) => {
    await holdLong(tx, store, items);
    askedAt = performance.now();
    const answer = await store.writeAndSettle(tx, batch.token, items, (locked, first) =>
      endingSql(dropping, locked, first),
    );
    answeredAt = performance.now();
    return answer;
  }, options);
  const { written, restless, lagSeconds, lockedMs } = settled;
  // The server's clock stops before AFTER triggers run, which are in the app's hand.
  const heldSince = context.appTriggers() ? askedAt : answeredAt - lockedMs;
  return {
    outcomes: new Map<string, WriteOutcome>([
      ...written.map((key) => [key, 'written'] as const),
      ...restless.map((key) => [key, 'restless'] as const),
    ]),
    ends: written.map((key) => ({ key, end: 'done' })),
    along: [],
    lagSeconds,
    heldMs: performance.now() - heldSince,
  };
}

/** The other space's trouble is not ours: what cannot be done together is done alone, and that batch left to itself. */
async function together(
  context: DrainContext,
  batch: WritingBatch,
  items: readonly MadeVector[],
  companions: Companions,
): Promise<Done> {
  let done: Done;
  try {
    done = await transaction(context, batch, items, companions);
  } catch {
    context.waiting.withdraw(companions.batch);
    return transaction(context, batch, items);
  }
  for (const key of done.along) companions.batch.left.delete(key);
  companions.batch.onWritten(done.along.length);
  return done;
}

/**
 * Whether a transaction with these items waits for the disk: one that is the whole batch does; else the end of the batch
 * does, for all of them.
 */
function flushes({ appTriggers }: DrainContext, batch: WritingBatch, items: readonly MadeVector[]): boolean {
  const flushed = appTriggers() || (!batch.unflushed && batch.left.size <= items.length);
  if (!flushed) batch.unflushed = true;
  return flushed;
}

/** An `alter` of the choice for long texts must see what was made under the one before. */
async function holdLong(tx: Executor, { source }: Store, items: readonly MadeVector[]): Promise<void> {
  if (items.some(({ long }) => long)) await holdDefinition(tx, source);
}

async function transaction(
  context: DrainContext,
  batch: WritingBatch,
  items: readonly MadeVector[],
  companions?: Companions,
): Promise<Done> {
  const { db, store } = context;
  const { token, losses } = batch;
  const made = new Map(items.map((item) => [item.key, item]));
  const flushed = flushes(context, batch, items);
  if (!flushed && companions) companions.batch.unflushed = true;
  let began = 0;
  const done = await db.tx(
    async (tx) => {
      await holdLong(tx, store, items);
      began = performance.now();
      const both = companions && (await store.writeBoth?.(tx, token, companions.items, companions.other));
      const along = [...(both ?? [])].flatMap(([key, outcome]) => (outcome === 'written' ? [key] : []));
      const outcomes = new Map<string, WriteOutcome>(along.map((key) => [key, 'written']));
      const alone = items.filter(({ key }) => !outcomes.has(key));
      if (alone.length > 0)
        for (const [key, outcome] of await store.write(tx, token, alone)) outcomes.set(key, outcome);
      const ends = [...outcomes].flatMap(([key, outcome]) => endOf(store, made.get(key), outcome, losses));
      const other = along.length > 0 ? companions?.other : undefined;
      const lags = [await settle(tx, store.space.id, token, ends, { last: !other })];
      if (other) {
        const theirs = along.map((key): Ending => ({ key, end: 'done', vector: 'whole' }));
        lags.push(await settle(tx, other.space.id, other.token, theirs, { last: true }));
      }
      return { outcomes, ends, along, lagSeconds: lags.flat() };
    },
    { flushed, eager: true },
  );
  return { ...done, heldMs: performance.now() - began };
}

/** How the lease of an item ends by what became of its row; those that nothing was done for keep it. */
function endOf(
  { source }: Store,
  item: MadeVector | undefined,
  outcome: WriteOutcome,
  losses: ReadonlyMap<string, number>,
): Ending[] {
  if (item === undefined) return [];
  const { key, long = 'whole' } = item;
  if (outcome === 'written') return [{ key, end: 'done', vector: long }];
  if (outcome === 'vetoed') return [vetoed(source, item)];
  if (outcome === 'changed') return [{ key, end: 'wait', seconds: waitSeconds(losses.get(key)), because: 'changed' }];
  return [];
}

/** Doubles with every write lost in a row, so that an autosaving editor is not paid for at every keystroke. */
function waitSeconds(losses = 0): number {
  return Math.min(0.1 * 2 ** losses, MAX_CHANGED_WAIT_SECONDS);
}
