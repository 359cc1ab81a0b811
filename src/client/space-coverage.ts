import { getSource } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { loadProgress } from '../reembed/progress.js';

export interface SpaceCoverage {
  /**
   * Where a space was asked for: share of the rows, 0 to 1, that have been visited for it; below 1 while it is being
   * filled. By pages, so about.
   */
  readonly coverage?: number;
}

/** Rounded down: 1 says that the first pass over the space is done. */
export async function spaceCoverage(db: Executor, sourceName: string, spaceId: number): Promise<SpaceCoverage> {
  const { share, loaded } = await loadProgress(db, await getSource(db, sourceName), spaceId);
  return { coverage: loaded ? 1 : Math.min(0.999, Math.floor(share * 1000) / 1000) };
}
