import type { Migration, MigrationState } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import { getSpace, listMaintainedSpaces, type Space } from '../../catalog/space.js';
import { asSingleton } from '../../claim/singleton.js';
import type { Database, Executor } from '../../db/database.js';
import { FreshvecError, sqlState } from '../../db/errors.js';
import {
  captureForStatements,
  executeStatements,
  holdSource,
  type LockedTable,
  lockedTable,
  lockWords,
  NO_LOCK,
  type PlannedStatement,
} from '../../source/index.js';
import { dropFlagSql, dropSpaceSql } from '../../store/index.js';
import { dropTableSql, vectorTable } from '../../store/table.js';
import { MOVED, type Operation, type StepContext, type StepOutcome, waits } from '../operation.js';
import { endOfContraction } from '../states.js';
import { holdSql, move, moveSql, OURS, type Ours, oursParams, wasTaken } from '../transition.js';
import { clearColumns } from './clear-columns.js';
import { dropIndex, endBuilds } from './drop-index.js';

const TRY_MS = 20_000;
const PAUSE_MS = 1_000;
export const OURS_ONLY = 'is done only while the migration is still ours';
/** Rows of freshvec's own tables that one statement deletes. */
const DELETE_ROWS = 10_000;

/** Tables with what is to be done, or became, of rows and indexes of a space; few rows each. */
const SPACE_RECORDS = ['failure', 'long_text', 'index_build'] as const;
/** With what is still to be done; a worker may be at it. */
const WORK = ['range', 'change', 'change_pack', 'lease'] as const;

/** Sets out to drop a space: the way back ends here. False where the migration was moved meanwhile. */
export async function contractTo(tx: Executor, migration: Migration, spaceId: number, what: string): Promise<boolean> {
  if (!(await holdForDrop(tx, migration, spaceId))) return false;
  return move(tx, migration, 'contracting', { what });
}

/** What is to be dropped stands on the row before the state says so. */
async function holdForDrop(tx: Executor, migration: Ours, spaceId: number): Promise<boolean> {
  const rows = await tx.query(
    `UPDATE freshvec.migration SET drop_space = $4
     WHERE ${OURS} AND NOT EXISTS (SELECT FROM freshvec.pointer p WHERE p.space_id = $4) RETURNING 1`,
    [...oursParams(migration), spaceId],
  );
  return rows.length > 0;
}

/**
 * Takes a space away in the order that gives its room back and never makes the app wait: capture forgets it, its index
 * goes first (clearing vectors under a live HNSW index is some 80 times slower), vectors are cleared in small batches
 * and vacuumed, and only then the columns are dropped. Each part looks at what is there and does what is left.
 */
export const contract: Operation = async (context) => {
  const { db, migration } = context;
  const doomed = migration.dropSpaceId === context.from.id ? context.from : context.to;
  const next = endOfContraction(migration);
  // Aborted before anything was made: what has its name by now is somebody else's.
  if (!(await getSpace(db, doomed.id))) {
    await db.tx((tx) => move(tx, migration, next, { what: 'there was nothing to drop' }));
    return MOVED;
  }
  try {
    if (doomed.store === 'column') await endBuilds(context, doomed);
    await forget(context, doomed);
    await deleteWork(db, doomed.id);
    if (doomed.store === 'column' && !(await emptyRows(context, doomed)))
      return waits(PAUSE_MS, 'another process builds or tends an index of the table');
    await dropVectors(context, doomed, next);
    return MOVED;
  } catch (error) {
    return laterOrThrow(error);
  }
};

/**
 * Takes the vectors off the source's rows as the only one that tends its table, as upkeep does. Resolves to false where
 * another process does, or took over.
 */
async function emptyRows(context: StepContext, doomed: Space): Promise<boolean> {
  const { db, source } = context;
  let taken: AbortSignal | undefined;
  try {
    return await asSingleton(db, `index:${source.relation.oid}`, async (lost) => {
      taken = lost;
      const alone = { ...context, signal: AbortSignal.any([lost, context.signal]) };
      await dropIndex(alone, doomed);
      if (!isKept(context, doomed)) await clearColumns(alone, doomed);
    });
  } catch (error) {
    if (taken?.aborted) return false;
    throw error;
  }
}

export function laterOrThrow(error: unknown): StepOutcome {
  if (wasTaken(error)) return MOVED;
  if (error instanceof FreshvecError && error.code === 'lock_not_available') return waits(PAUSE_MS, error.message);
  // A view, a trigger or a function of the app's stands on what is to be dropped.
  if (sqlState(error) === '2BP01') return { park: `${messageOf(error)}: drop or change that, then \`resume\`` };
  throw error;
}

/** With what PostgreSQL says depends on it. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'detail' in error && typeof error.detail === 'string' ? `${error.message} (${error.detail})` : error.message;
}

/** Capture enqueues for the other space alone from here on, and no worker claims for this one. */
async function forget({ db, migration, source }: StepContext, doomed: Space): Promise<void> {
  const [space] = await db.query<{ state: string }>('SELECT state FROM freshvec.space WHERE id = $1', [doomed.id]);
  if (!space || space.state === 'dropped') return;
  const statements = async (tx: Executor) => forgetStatements(tx, migration, await holdSource(tx, source), doomed);
  await executeStatements(db, await lockedTable(db, source), statements, { giveUpMs: TRY_MS });
}

async function forgetStatements(
  tx: Executor,
  migration: Migration,
  source: Source,
  doomed: Space,
): Promise<PlannedStatement[]> {
  const rest = (await listMaintainedSpaces(tx, source.id)).filter(({ id }) => id !== doomed.id);
  // The flag says nothing once no space is on the rows.
  const flagged = rest.some(({ store }) => store === 'column');
  return [
    free(holdSql(migration), OURS_ONLY),
    ...endSpace(doomed.id),
    ...(flagged
      ? []
      : [free(`UPDATE freshvec.source SET flag_column = NULL WHERE id = ${source.id}`, 'ends the flag')]),
    ...(await captureForStatements(tx, flagged ? source : { ...source, flagColumn: undefined }, rest)),
    ...(flagged ? [] : dropFlagSql(source)).map((sql) => ({ sql, lock: lockOf(source), why: 'drops the flag' })),
  ];
}

function free(sql: string, why: string): PlannedStatement {
  return { sql, lock: NO_LOCK, why };
}

/** Has the catalog forget a space, and what was on record of its rows and indexes. */
export function endSpace(id: number): PlannedStatement[] {
  return [
    free(`UPDATE freshvec.space SET state = 'dropped' WHERE id = ${id}`, 'ends the space'),
    ...SPACE_RECORDS.map((table) =>
      free(`DELETE FROM freshvec.${table} WHERE space_id = ${id}`, 'drops what was still to be done'),
    ),
  ];
}

function lockOf(source: Source): string {
  return lockWords('ACCESS EXCLUSIVE', { source, relations: [''] });
}

/** What is still to be done for the space, but for what a worker is at just now. */
export async function deleteWork(db: Executor, spaceId: number): Promise<void> {
  for (const table of WORK) {
    let deleted: unknown[];
    do {
      deleted = await db.query(
        `DELETE FROM freshvec.${table} WHERE ctid = ANY(ARRAY(
           SELECT ctid FROM freshvec.${table} WHERE space_id = $1 LIMIT ${DELETE_ROWS} FOR UPDATE SKIP LOCKED))
         AND space_id = $1 RETURNING 1`,
        [spaceId],
      );
    } while (deleted.length === DELETE_ROWS);
  }
}

/**
 * What is still to be visited. Behind what drops the vectors: once that has its lock no visit of their rows is under way.
 * Few rows; changes and leases may leave many dead ones, which are not waded through while the app waits.
 */
export function endVisits(spaceId: number): PlannedStatement {
  return free(`DELETE FROM freshvec.range WHERE space_id = ${spaceId}`, 'ends what was to be visited');
}

/** An abort leaves the source as it was: with the column that somebody had begun to fill. */
function isKept({ to }: StepContext, doomed: Space): boolean {
  return doomed.adoption !== undefined && doomed.id === to.id;
}

/** The columns, or the table, with the change of state: whoever comes later finds nothing to drop under these names. */
async function dropVectors(context: StepContext, doomed: Space, next: MigrationState): Promise<void> {
  const { db, migration, source } = context;
  await deleteWork(db, doomed.id);
  const ended = free(moveSql(migration, next, `space ${doomed.id} is gone`), OURS_ONLY);
  if (doomed.store === 'table') return dropTable(db, doomed, [ended]);
  const drops = dropSpaceSql(source, doomed, isKept(context, doomed) ? 'keep' : 'drop').map((sql) => ({
    sql,
    lock: lockOf(source),
    why: 'drops the vectors',
  }));
  const statements = [ended, ...drops, endVisits(doomed.id)];
  await executeStatements(db, await lockedTable(db, source), statements, { giveUpMs: TRY_MS });
  await deleteWork(db, doomed.id);
}

/** Drops the table of a space's vectors and ends its work, in one transaction with what comes `before`. */
export async function dropTable(db: Database, space: Space, before: readonly PlannedStatement[]): Promise<void> {
  const table = await ownTable(db, space);
  const lock = `ACCESS EXCLUSIVE on ${vectorTable(space)}, for milliseconds`;
  const drops = dropTableSql(space).map((sql) => ({ sql, lock, why: 'drops the vectors' }));
  await executeStatements(db, table, [...before, ...drops, endVisits(space.id)], { giveUpMs: TRY_MS });
  await deleteWork(db, space.id);
}

/** The table of a space's vectors; a reader of it, a dump say, is not queued behind either. Undefined where it is gone. */
async function ownTable(db: Executor, space: Space): Promise<LockedTable | undefined> {
  const name = vectorTable(space);
  const [row] = await db.query<{ oid: number | null }>('SELECT to_regclass($1)::oid::int8 AS oid', [name]);
  return row?.oid ? { oid: row.oid, name, relations: 1 } : undefined;
}
