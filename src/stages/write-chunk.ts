import { holdDefinition } from '../catalog/source.js';
import { type Ending, settle } from '../claim/settle.js';
import type { WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import type { MadeVector } from './made-vector.js';
import type { Pace } from './pace.js';
import type { Companions } from './waiting-writes.js';

/** Longest wait of a key whose text keeps changing under the worker, in seconds. */
const MAX_CHANGED_WAIT_SECONDS = 30;

/** The batch that a chunk is of. */
type OfBatch = Pick<EmbeddedTexts, 'token' | 'priority' | 'losses'> & {
  /** What is still to be written of it; other spaces' writes take items along meanwhile. */
  readonly left: Map<string, MadeVector>;
};

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

/**
 * Writes what is left of a chunk in one transaction once its turn has come, and with it what another space has ready for
 * the same rows. Resolves to what became of the rows.
 */
export async function writeChunk(
  context: DrainContext,
  batch: OfBatch,
  chunk: readonly MadeVector[],
  pace: Pace,
): Promise<ReadonlyMap<string, WriteOutcome>> {
  const { store, report, writeGate, observer } = context;
  const { source } = store;
  const done = await writeGate(batch.priority, async () => {
    const items = chunk.filter(({ key }) => batch.left.has(key));
    if (items.length === 0) return undefined;
    const companions = context.indexed() === 'none' ? undefined : context.waiting.beside(store, items);
    const result = await together(context, batch, items, companions);
    for (const key of result.outcomes.keys()) batch.left.delete(key);
    // Rows that were not written cost next to nothing and tell nothing.
    pace.observe(result.ends.filter(({ end }) => end === 'done').length, result.heldMs);
    observer?.written({ source: source.name, seconds: result.heldMs / 1000 });
    observer?.settled({ source: source.name, lagSeconds: result.lagSeconds });
    return result;
  });
  if (!done) return new Map();
  await endGone(context, batch.token, done.outcomes);
  for (const { end } of done.ends) {
    if (end === 'done') report.written += 1;
    else report.delayed += 1;
  }
  return done.outcomes;
}

/** The other space's trouble is not ours: what cannot be done together is done alone. */
async function together(
  context: DrainContext,
  batch: OfBatch,
  items: readonly MadeVector[],
  companions: Companions | undefined,
): Promise<Done> {
  if (!companions) return transaction(context, batch, items);
  let done: Done;
  try {
    done = await transaction(context, batch, items, companions);
  } catch {
    return transaction(context, batch, items);
  }
  for (const key of done.along) companions.batch.items.delete(key);
  companions.batch.onWritten(done.along.length);
  return done;
}

async function transaction(
  { db, store, flushesAll }: DrainContext,
  { token, losses, left }: OfBatch,
  items: readonly MadeVector[],
  companions?: Companions,
): Promise<Done> {
  const made = new Map(items.map((item) => [item.key, item]));
  const theirLeft = companions?.batch.items.size ?? Number.POSITIVE_INFINITY;
  // The last one of a batch waits for the disk for all: with it the batch is done, and nobody holds its leases any more.
  const isLast = left.size <= items.length || theirLeft <= (companions?.items.length ?? 0);
  let began = 0;
  const done = await db.tx(
    async (tx) => {
      // An `alter` of the choice for long texts must see what was made under the one before.
      if ([...items, ...(companions?.theirs ?? [])].some(({ long }) => long)) await holdDefinition(tx, store.source);
      began = performance.now();
      const both = companions && (await store.writeBoth?.(tx, token, companions.items, companions.other));
      const along = (companions?.theirs ?? []).filter(({ key }) => both?.get(key) === 'written');
      const outcomes = new Map<string, WriteOutcome>(along.map(({ key }) => [key, 'written']));
      const alone = items.filter(({ key }) => !outcomes.has(key));
      if (alone.length > 0)
        for (const [key, outcome] of await store.write(tx, token, alone)) outcomes.set(key, outcome);
      const ends = [...outcomes].flatMap(([key, outcome]) => endOf(made.get(key), outcome, losses));
      const lags = [await settle(tx, store.space.id, token, ends)];
      if (companions && along.length > 0) {
        const { space, token } = companions.other;
        const theirs = along.flatMap((item) => endOf(item, 'written'));
        lags.push(await settle(tx, space.id, token, theirs));
      }
      return { outcomes, ends, along: along.map(({ key }) => key), lagSeconds: lags.flat() };
    },
    { flushed: isLast || flushesAll() },
  );
  return { ...done, heldMs: performance.now() - began };
}

/** How the lease of an item ends by what became of its row; those that nothing was done for keep it. */
function endOf(
  item: MadeVector | undefined,
  outcome: WriteOutcome,
  losses: ReadonlyMap<string, number> = new Map(),
): Ending[] {
  if (item === undefined) return [];
  const { key, long = 'whole' } = item;
  if (outcome === 'written') return [{ key, end: 'done', vector: long }];
  if (outcome === 'changed') return [{ key, end: 'wait', seconds: waitSeconds(losses.get(key)), because: 'changed' }];
  return [];
}

/** Doubles with every write lost in a row, so that an autosaving editor is not paid for at every keystroke. */
function waitSeconds(losses = 0): number {
  return Math.min(0.1 * 2 ** losses, MAX_CHANGED_WAIT_SECONDS);
}

/** Rows that are gone end in a transaction of their own: their leases were not locked by the write. */
export async function endGone(
  { db, store }: Pick<DrainContext, 'db' | 'store'>,
  token: string,
  outcomes: ReadonlyMap<string, WriteOutcome>,
): Promise<void> {
  const gone = [...outcomes]
    .filter(([, outcome]) => outcome === 'gone')
    .map(([key]): Ending => ({ key, end: 'done', vector: 'none' }));
  if (gone.length > 0) await db.tx((tx) => settle(tx, store.space.id, token, gone));
}
