import { asSingleton } from '../../claim/singleton.js';
import { classify, FreshvecError } from '../../db/errors.js';
import { ensureIndex } from '../../store/build-index.js';
import { MOVED, type Operation, type StepOutcome, waits } from '../operation.js';
import { countTry, move, waitFor } from '../transition.js';

/** Builds that may fail in a row before a person is asked. */
const MOST_TRIES = 3;
const LOOK_MS = 1_000;
/** Until it is tried again after what passes by itself: a lock that is not free, a server out of reach. */
const PASSING_MS = 5_000;

/**
 * Ensures the new space's index, built concurrently under a name that freshvec owns. What a build that failed left
 * behind is dropped and built again, three times at most; one that another session is building is waited for.
 */
export const indexSpace: Operation = async (context) => {
  const { db, migration, source, to, index } = context;
  let outcome: StepOutcome = waits(LOOK_MS, 'another index of this table is being built');
  await asSingleton(db, `index:${source.relation.oid}`, async (lost) => {
    const signal = AbortSignal.any([lost, context.signal]);
    outcome = await build(signal);
  });
  return outcome;

  async function build(signal: AbortSignal): Promise<StepOutcome> {
    try {
      const state = await ensureIndex(db, source, to, {
        ...index,
        signal,
        onProgress: ({ phase, done, total, waitsForPid }) => {
          const held = waitsForPid === undefined ? '' : `; waits for the transaction of pid ${waitsForPid}`;
          const reason = `${phase}: ${total > 0 ? Math.floor((100 * done) / total) : 0} %${held}`;
          waitFor(db, migration, reason).catch(() => {});
        },
      });
      if (state === 'building') return waits(LOOK_MS, 'another session is building an index of the table');
    } catch (error) {
      if (signal.aborted) return waits(0);
      const message = error instanceof Error ? error.message : String(error);
      // Nobody has to mend what passes by itself.
      if (isPassing(error)) return waits(PASSING_MS, `the index is built later: ${message}`);
      // What a person must mend does not get better by trying.
      const tries = error instanceof FreshvecError ? MOST_TRIES : await countTry(db, migration, message);
      if (tries < MOST_TRIES) return waits(LOOK_MS * tries, `the index build failed and is tried again: ${message}`);
      return { park: `the index cannot be built: ${message}` };
    }
    const what = to.index.kind === 'none' ? 'it has no index: exact search' : 'the index is valid';
    await db.tx((tx) => move(tx, migration, 'verifying', { what }));
    return MOVED;
  }
};

function isPassing(error: unknown): boolean {
  if (error instanceof FreshvecError) return ['lock_not_available', 'database_unreachable'].includes(error.code);
  return ['lock_timeout', 'connection', 'too_many'].includes(classify(error));
}
