import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import type { StepContext } from './operation.js';
import { OURS, type Ours, oursParams } from './transition.js';

/** How often the throttle is set, in ms. */
export const TICK_MS = 1_000;
/** Between two ticks that are farther apart nobody was at work. */
const LONGEST_TICK_SECONDS = 10;

/** The space that texts are embedded for, and the share of its rows that is there, 0 to 1. */
export interface Filling {
  readonly to: Space;
  readonly filled: number;
}

/**
 * Asks what the database feels and puts it on the migration's row, where workers and `status` read it. Resolves to the
 * share of the time to work for from now on.
 */
export async function tickThrottle(
  { db, migration, source, throttle }: Pick<StepContext, 'db' | 'migration' | 'source' | 'throttle'>,
  before: number,
  filling?: Filling,
): Promise<number> {
  const { share, signals } = await throttle({ migrationId: migration.id, source, to: filling?.to }, before);
  await saveThrottle(db, migration, { share, signals: JSON.stringify(signals), filled: filling?.filled ?? 0 });
  return share;
}

/** Only as long as the migration is ours: a controller that slept must not speed up what another one slowed down. */
async function saveThrottle(
  db: Executor,
  migration: Ours,
  { share, signals, filled }: { readonly share: number; readonly signals: string; readonly filled: number },
): Promise<void> {
  await db.query(
    `UPDATE freshvec.migration SET share = $4, throttle = $5::jsonb, throttled_at = clock_timestamp(),
       worked = worked + CASE WHEN state = 'backfilling' AND throttled_at > clock_timestamp() - make_interval(secs => $6)
         THEN extract(epoch FROM clock_timestamp() - throttled_at) ELSE 0 END,
       filled_before = CASE WHEN throttled_at IS NULL THEN $7 ELSE filled_before END
     WHERE ${OURS}`,
    [...oursParams(migration), share, signals, LONGEST_TICK_SECONDS, filled],
  );
}
