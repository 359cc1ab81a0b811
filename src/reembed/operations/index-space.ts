import { getMigration } from '../../catalog/migration.js';
import { asSingleton } from '../../claim/singleton.js';
import type { Executor } from '../../db/database.js';
import { classify, FreshvecError, sqlState } from '../../db/errors.js';
import { analyzeSpace } from '../../store/analyze.js';
import { dropHalfBuilt, ensureIndex } from '../../store/build-index.js';
import { MOVED, type Operation, type StepOutcome, waits } from '../operation.js';
import { countTry, forgetTries, forgetTry, move, recordOurs, waitFor } from '../transition.js';

/** Builds that may fail in a row before a person is asked. */
const MOST_TRIES = 3;
const LOOK_MS = 1_000;
/** Until it is tried again after what passes by itself: a lock that is not free, a server out of reach. */
const PASSING_MS = 5_000;
/** How long statistics may wait for their lock: a vacuum of the server's own gives way after a second. */
const ANALYZE_LOCK_MS = 5_000;
const LOCK_NOT_AVAILABLE = '55P03';

/**
 * Ensures the new space's index, built concurrently under a name that freshvec owns. What a build that failed left
 * behind is dropped and built again, three times at most; one that another session is building is waited for. Then the
 * planner is told what the space was filled with.
 *
 * A try is counted before CREATE INDEX is sent, and taken back where we ended it ourselves: one that brings the server
 * down, or this process, would not be counted after.
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
    let tries = 0;
    // One try for each partition, or a table of many would be parked for builds that came to their end.
    const afterBuild = async () => {
      await forgetTries(db, migration);
      tries = 0;
    };
    const beforeBuild = async (session: Executor) => {
      if (tries > 0) return;
      tries = await countTry(session, migration);
      if (tries === 0) throw new MigrationTaken();
      if (tries > MOST_TRIES) throw new TriesOver(migration.reason);
    };
    try {
      const state = await ensureIndex(db, source, to, {
        ...index,
        signal,
        beforeBuild,
        afterBuild,
        onProgress: ({ phase, done, total, waitsForPid }) => {
          const held = waitsForPid === undefined ? '' : `; waits for the transaction of pid ${waitsForPid}`;
          const reason = `${phase}: ${total > 0 ? Math.floor((100 * done) / total) : 0} %${held}`;
          waitFor(db, migration, reason).catch(() => {});
        },
      });
      if (state === 'building') return waits(LOOK_MS, 'another session is building an index of the table');
      await analyzeSpace(db, source, to, { lockTimeoutMs: ANALYZE_LOCK_MS, signal }).catch(() => {
        // Whether the planner goes by the index is measured all the same.
        signal.throwIfAborted();
      });
    } catch (error) {
      if (signal.aborted) {
        if (tries > 0) await forgetTry(db, migration);
        if ((await getMigration(db, migration.id))?.paused) await tidy();
        return waits(0);
      }
      if (error instanceof MigrationTaken) return waits(0);
      return failed(error, tries);
    }
    const what = to.index.kind === 'none' ? 'it has no index: exact search' : 'the index is valid';
    await db.tx((tx) => move(tx, migration, 'verifying', { what }));
    return MOVED;
  }

  async function failed(error: unknown, counted: number): Promise<StepOutcome> {
    const message = error instanceof Error ? error.message : String(error);
    // Nobody has to mend what passes by itself. What comes once the build has begun may be its own doing; but it waits for
    // its locks without limit: only to hang a leaf's index on its parent's is given up.
    const passing = isPassing(error);
    if (passing && (counted === 0 || sqlState(error) === LOCK_NOT_AVAILABLE)) {
      if (counted > 0) await forgetTry(db, migration);
      return waits(PASSING_MS, `the index is built later: ${message}`);
    }
    // What a person must mend does not get better by trying.
    const tries = error instanceof FreshvecError && !passing ? MOST_TRIES : counted || (await countTry(db, migration));
    if (tries >= MOST_TRIES) {
      if (counted > 0) await tidy();
      return { park: `the index cannot be built: ${message}` };
    }
    const reason = `the index build failed and is tried again: ${message}`;
    if (!(await recordOurs(db, migration, reason))) return waits(0);
    return waits(LOOK_MS * tries, reason);
  }

  /** Nobody comes back to what the build left for as long as a person likes. What cannot be dropped now is so by then. */
  async function tidy(): Promise<void> {
    await dropHalfBuilt(db, source, to).catch(() => {});
  }
};

class MigrationTaken extends Error {}

/** None of the builds before came to an end that anybody saw. */
class TriesOver extends FreshvecError {
  constructor(last: string | undefined) {
    super(
      'index_build_failed',
      `${MOST_TRIES} builds came to no end${last === undefined ? '' : `; the last: ${last}`}`,
    );
  }
}

function isPassing(error: unknown): boolean {
  if (error instanceof FreshvecError) return ['lock_not_available', 'database_unreachable'].includes(error.code);
  return ['lock_timeout', 'connection', 'too_many'].includes(classify(error));
}
