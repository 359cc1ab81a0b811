import { pauseOf } from '../../catalog/pause.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { loadProgress } from '../progress.js';
import { TICK_MS, tickThrottle } from '../tick-throttle.js';
import { move, pauseSelf } from '../transition.js';

/**
 * Waits for the workers to embed every row for the new space, and says how fast they may: pages of the first pass are
 * theirs to claim, edits go before them. Nothing is remembered here: which rows are done is told by their hash.
 */
export const backfill: Operation = async (context) => {
  const { db, migration, source, to } = context;
  const progress = await loadProgress(db, source, to.id);
  if (progress.loaded) {
    await db.tx((tx) => move(tx, migration, 'indexing', { what: 'every row was visited' }));
    return MOVED;
  }
  if (migration.until < 1 && progress.share >= migration.until) {
    const there = Math.round(progress.share * 100);
    const asked = Math.round(migration.until * 100);
    const reason = `${there} % of the rows are there${there === asked ? ', as asked' : `, ${asked} % were asked for`}: look at them with \`search --space ${to.id}\`, then \`resume\``;
    await db.tx((tx) => pauseSelf(tx, migration, reason));
    return MOVED;
  }
  // Nobody works on it, so it is not counted as time at work either.
  const resting = await pauseOf(db, { sourceId: source.id, spaceId: to.id });
  if (resting) return waits(TICK_MS, `its workers rest: ${resting.reason}`);
  await tickThrottle(context, migration.share, { to, filled: progress.share });
  return waits(TICK_MS);
};
