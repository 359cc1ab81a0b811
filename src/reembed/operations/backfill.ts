import type { Executor } from '../../db/database.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { loadProgress } from '../progress.js';
import { move, OURS, type Ours, oursParams, pauseSelf } from '../transition.js';

/** How often the throttle is set, in ms. */
const TICK_MS = 1_000;

/**
 * Waits for the workers to embed every row for the new space, and says how fast they may: pages of the first pass are
 * theirs to claim, edits go before them. Nothing is remembered here: which rows are done is told by their hash.
 */
export const backfill: Operation = async ({ db, migration, source, to, throttle }) => {
  const progress = await loadProgress(db, source, to.id);
  if (progress.loaded) {
    await db.tx((tx) => move(tx, migration, 'indexing', { what: 'every row was visited' }));
    return MOVED;
  }
  if (migration.until < 1 && progress.share >= migration.until) {
    const reason = `${Math.round(migration.until * 100)} % of the rows are there, as asked: look at them with \`search --space ${to.id}\`, then \`resume\``;
    await db.tx((tx) => pauseSelf(tx, migration, reason));
    return MOVED;
  }
  const { share, signals } = await throttle({ migrationId: migration.id, source, to }, migration.share);
  await saveThrottle(db, migration, share, JSON.stringify(signals));
  return waits(TICK_MS);
};

/** Only as long as the migration is ours: a controller that slept must not speed up what another one slowed down. */
async function saveThrottle(db: Executor, migration: Ours, share: number, signals: string): Promise<void> {
  await db.query(
    `UPDATE freshvec.migration SET share = $4, throttle = $5::jsonb, throttled_at = clock_timestamp() WHERE ${OURS}`,
    [...oursParams(migration), share, signals],
  );
}
