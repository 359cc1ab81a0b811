import { endRests } from '../budget/account.js';
import { parseModelSpec } from '../catalog/model.js';
import { type Pause, pauseOf, pauseWork, resumeWork } from '../catalog/pause.js';
import { getSource } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import { endWaits } from '../claim/end-waits.js';
import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';

export interface PauseOptions {
  /** For whoever looks at the status. */
  readonly reason?: string | undefined;
  /** How long, at least 1; until it is resumed unless told. */
  readonly seconds?: number | undefined;
}

const DEFAULT_REASON = 'by hand';
const MOST_SECONDS = 10 * 365 * 86_400;

/** Resolves to the pause that now lasts longest. Throws FreshvecError `source_unknown`, `pause_request_invalid`. */
export async function pause(db: Database, name: string, { reason, seconds }: PauseOptions): Promise<Pause> {
  if (seconds !== undefined && !(seconds >= 1 && seconds <= MOST_SECONDS)) {
    throw new FreshvecError('pause_request_invalid', `A pause lasts from a second to ten years, not ${seconds} s.`);
  }
  const source = await getSource(db, name);
  return db.tx(async (tx) => {
    const target = { sourceId: source.id };
    await pauseWork(tx, target, { kind: 'person', reason: reason?.trim() || DEFAULT_REASON, seconds });
    const paused = await pauseOf(tx, target);
    if (!paused) throw new Error('the pause was over before it could be read');
    return paused;
  });
}

/**
 * Ends pauses of every kind, and has providers of the source's models that wanted to be left alone be asked again, by one
 * request first. Resolves to whether there was anything to end. Throws FreshvecError `source_unknown`.
 */
export async function resume(db: Database, name: string): Promise<boolean> {
  const { id: sourceId } = await getSource(db, name);
  const spaces = await listMaintainedSpaces(db, sourceId);
  const rested = await endRests(
    db,
    spaces.map(({ spec }) => parseModelSpec(spec).name),
  );
  await endWaits(
    db,
    spaces.map(({ id }) => id),
  );
  const paused = await resumeWork(db, { sourceId });
  return rested || paused;
}
