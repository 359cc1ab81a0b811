import type { Gate, Migration } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';

/** Measures whether a new space may answer searches. */
export type GateRunner = (context: {
  readonly db: Database;
  readonly migration: Migration;
  readonly source: Source;
  readonly from: Space;
  readonly to: Space;
  readonly signal: AbortSignal;
}) => Promise<Gate[]>;
