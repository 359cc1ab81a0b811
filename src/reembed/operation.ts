import type { Gate, Migration } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import type { Tick } from './throttle/create-throttle.js';

/** What a controller works with. */
export interface ControllerDeps {
  readonly db: Database;
  /** Measures whether the new space may answer searches. */
  readonly runGates: (of: Pick<StepContext, 'migration' | 'source' | 'from' | 'to' | 'signal'>) => Promise<Gate[]>;
  /** Reads what the database feels, about once a second while rows are written; `share` is the one that holds. */
  readonly throttle: (work: ThrottledWork, share: number) => Promise<Tick>;
  readonly index: IndexSettings;
}

/** Rows that are written for a migration. */
export interface ThrottledWork {
  readonly migrationId: number;
  readonly source: Source;
  /** The space that a backfill fills; undefined where vectors are cleared, which asks no provider. */
  readonly to: Space | undefined;
}

/** What a build of a vector index may take. */
export interface IndexSettings {
  /** maintenance_work_mem for the build's session, such as `1GB`; undefined leaves the server's own. */
  readonly maintenanceWorkMem: string | undefined;
  /** max_parallel_maintenance_workers for it; undefined leaves the server's own. */
  readonly parallelWorkers: number | undefined;
}

/** One migration, as it was when the step began. */
export interface StepContext extends ControllerDeps {
  readonly migration: Migration;
  /** With the table's present name. */
  readonly source: Source;
  readonly from: Space;
  /** As in the catalog, or as planned while it is not there yet. */
  readonly to: Space;
  /** Aborts when the controller is to stop, or lost the migration to another one or to a person's command. */
  readonly signal: AbortSignal;
}

/**
 * What a step came to. `moved`: the migration is in another state now. `waits`: look again in `ms`. `park`: a person must
 * see to it.
 */
export type StepOutcome =
  | { readonly moved: true }
  | { readonly waitMs: number; readonly reason: string | null }
  | { readonly park: string };

/** One state's work: reads what is there, does what is missing, and moves on once it is done. May be run at any time again. */
export type Operation = (context: StepContext) => Promise<StepOutcome>;

export const MOVED: StepOutcome = { moved: true };

export function waits(ms: number, reason: string | null = null): StepOutcome {
  return { waitMs: ms, reason };
}
