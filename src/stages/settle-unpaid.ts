import { holdDefinition } from '../catalog/source.js';
import { type Ending, settle } from '../claim/settle.js';
import type { Store, WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import { type Refusal, settleRefused } from './refuse-long.js';
import { apart, vetoed, type Written } from './write-refused.js';

/** How soon a row that wants no payment is asked for again when somebody holds it, in seconds. */
const LOCKED_WAIT_SECONDS = 0.25;

/**
 * Ends what costs nothing: rows that are fresh, gone, rejected or delayed, flags to lower, vectors to take away. Where a
 * table's index is in use that is a write like any other.
 */
export async function settleUnpaid(context: DrainContext, batch: EmbeddedTexts): Promise<void> {
  const { store, report } = context;
  const { token, confirm, remove, refused, endings } = batch;
  const waiting: Ending[] = [];
  const later = (key: string) => waiting.push(waitFor(key));
  for (const [keys, tidy, vector] of [
    [confirm, store.confirm, undefined],
    [remove, store.remove, 'none'],
  ] as const) {
    const outcomes = await tidyAll(context, batch, keys, tidy, vector);
    await endGone(context, token, outcomes);
    for (const key of keys) {
      const outcome = outcomes.get(key);
      if (outcome === undefined || outcome === 'changed' || outcome === 'locked') later(key);
      else if (outcome === 'vetoed') report.failed += 1;
      else report.unpaid += 1;
    }
  }
  // They fail in any case: all of them may be set aside, however many the table refuses.
  const refuse = (some: readonly Refusal[]) => settleRefused(context, token, some);
  const outcomes = await apart(context, token, refused, refuse, Number.POSITIVE_INFINITY);
  await endGone(context, token, outcomes);
  for (const [key, outcome] of outcomes) {
    if (outcome === 'locked') later(key);
    else if (outcome !== 'gone' && outcome !== 'lost') report.failed += 1;
  }
  for (const { end } of await endWithout(context, token, [...endings, ...waiting])) {
    if (end === 'fail') report.failed += 1;
    else if (end === 'wait') report.delayed += 1;
    else report.unpaid += 1;
  }
}

/**
 * Ends leases without a write, which would notice an `alter`: whoever alters the source waits for this, or has done so, and
 * then the rows are looked at once more. Resolves to how they end.
 */
async function endWithout(
  { db, store }: Pick<DrainContext, 'db' | 'store'>,
  token: string,
  endings: readonly Ending[],
): Promise<readonly Ending[]> {
  if (endings.length === 0) return [];
  return db.tx(async (tx) => {
    const ends = (await holdDefinition(tx, store.source)) ? endings : endings.map(({ key }) => waitFor(key));
    await settle(tx, store.space.id, token, ends);
    return ends;
  });
}

function waitFor(key: string): Ending {
  return { key, end: 'wait', seconds: LOCKED_WAIT_SECONDS, because: 'delay' };
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
        // As in `endWithout`.
        if (!(await holdDefinition(tx, store.source)))
          return new Map(rows.map(({ key }): [string, WriteOutcome] => [key, 'locked']));
        began = performance.now();
        const some = await tidy(
          tx,
          token,
          rows.map(({ key }) => key),
        );
        await settle(tx, store.space.id, token, endsOf(store, some, vector));
        return some;
      });
      // Locks last until the commit is done.
      pace.observe([...tidied.values()].filter((outcome) => outcome === 'written').length, performance.now() - began);
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

function endsOf({ source }: Store, outcomes: ReadonlyMap<string, WriteOutcome>, vector: 'none' | undefined): Ending[] {
  return [...outcomes].flatMap(([key, outcome]): Ending[] => {
    if (outcome === 'written') return [{ key, end: 'done', vector }];
    return outcome === 'vetoed' ? [vetoed(source, { key, hash: null })] : [];
  });
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
