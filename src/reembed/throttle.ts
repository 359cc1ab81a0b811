import type { Signal } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';

/** Reads what the database feels; `share` is the part of the time that the backfill may work, 0 to 1. */
export type ThrottleTick = (
  source: Source,
  share: number,
) => Promise<{ readonly share: number; readonly signals: readonly Signal[] }>;
