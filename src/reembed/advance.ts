import { getMigration, type Migration, type MigrationState } from '../catalog/migration.js';
import { getSourceById } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { currentSource } from '../source/index.js';
import { missingColumns, missingGround, tableDropped } from './ground.js';
import type { ControllerDeps, Operation, StepContext, StepOutcome } from './operation.js';
import { MOVED, waits } from './operation.js';
import { backfill } from './operations/backfill.js';
import { contract } from './operations/contract.js';
import { contractWithoutTable } from './operations/contract-without-table.js';
import { expand } from './operations/expand.js';
import { indexSpace } from './operations/index-space.js';
import { ready } from './operations/ready.js';
import { soak } from './operations/soak.js';
import { verify } from './operations/verify.js';
import { move, waitFor } from './transition.js';

const IDLE_MS = 5_000;

/** What the controller does in each state; where it does nothing a person decides. */
const OPERATIONS: Readonly<Record<MigrationState, Operation>> = {
  planned: async ({ db, migration }) => {
    await db.tx((tx) => move(tx, migration, 'expanding', { what: 'started' }));
    return MOVED;
  },
  expanding: expand,
  backfilling: backfill,
  indexing: indexSpace,
  verifying: verify,
  ready,
  soaking: soak,
  rolled_back: async () => waits(IDLE_MS, null),
  contracting: contract,
  done: async () => waits(IDLE_MS, null),
  aborted: async () => waits(IDLE_MS, null),
  parked: async () => waits(IDLE_MS, null),
};

/**
 * Takes one step of a migration that this controller holds (its token is on the row), and resolves to how long to wait
 * before the next; 0 where there is something to do at once.
 */
export async function advance(deps: ControllerDeps, migration: Migration, signal: AbortSignal): Promise<number> {
  const context = await open(deps, migration, signal);
  const outcome = 'migration' in context ? await OPERATIONS[migration.state](context) : context;
  return settle(deps.db, migration, outcome);
}

/** What the migration stands on, as it is now; what is missing parks it. A contraction needs less, and never parks. */
async function open(
  deps: ControllerDeps,
  migration: Migration,
  signal: AbortSignal,
): Promise<StepContext | StepOutcome> {
  const ground = await deps.db.tx(async (tx) => {
    // As of one moment: a table that is dropped meanwhile would else look like one without columns.
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    return readGround(tx, migration);
  });
  if (ground === 'no table') return contractWithoutTable(deps.db, migration);
  return 'source' in ground ? { ...deps, migration, ...ground, signal } : ground;
}

async function readGround(
  tx: Executor,
  migration: Migration,
): Promise<Pick<StepContext, 'source' | 'from' | 'to'> | StepOutcome | 'no table'> {
  const recorded = await getSourceById(tx, migration.sourceId);
  if (!recorded) return { park: 'its source is gone' };
  const source = await currentSource(tx, recorded);
  const from = await getSpace(tx, migration.fromSpaceId);
  const contracting = migration.state === 'contracting';
  if (!source) return contracting ? 'no table' : { park: tableDropped(recorded, migration) };
  if (!from) return { park: 'the space that it comes from is gone' };
  const to = (await getSpace(tx, migration.toSpaceId)) ?? migration.target;
  const missing = contracting
    ? await missingColumns(tx, source)
    : await missingGround(tx, migration, recorded, from, to);
  // What is to be dropped may be gone. Capture for what stays is made anew: not without a column that it watches.
  if (missing !== undefined) return contracting ? waits(IDLE_MS, missing) : { park: missing };
  return { source, from, to };
}

async function settle(db: Database, migration: Migration, outcome: StepOutcome): Promise<number> {
  if ('moved' in outcome) return 0;
  if ('park' in outcome) {
    await db.tx((tx) => move(tx, migration, 'parked', { what: outcome.park, reason: outcome.park }));
    return 0;
  }
  await waitFor(db, migration, outcome.reason);
  return outcome.waitMs;
}

/** Whether the migration is still this controller's, in the state that it knows. */
export async function isOurs(db: Database, migration: Migration): Promise<boolean> {
  const now = await getMigration(db, migration.id);
  return now !== undefined && now.token === migration.token && now.state === migration.state && !now.paused;
}
