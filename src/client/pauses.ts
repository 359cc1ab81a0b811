import { type Pause, pauseOf, pauseWork, resumeWork } from '../catalog/pause.js';
import { getSource } from '../catalog/source.js';
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

/** Resolves to whether the source was paused. Throws FreshvecError `source_unknown`. */
export async function resume(db: Database, name: string): Promise<boolean> {
  return resumeWork(db, { sourceId: (await getSource(db, name)).id });
}
