import { type CaptureTarget, readCaptureTarget } from '../../capture/index.js';
import { columnsThere } from '../../catalog/columns.js';
import type { Source } from '../../catalog/source.js';
import { listMaintainedSpaces, type Space } from '../../catalog/space.js';
import type { Executor } from '../../db/database.js';
import { FreshvecError } from '../../db/errors.js';
import { literal } from '../../db/identifiers.js';
import {
  captureForStatements,
  executeStatements,
  holdSource,
  insertSpaceSql,
  loadStatement,
  lockedTable,
  lockWords,
  NO_LOCK,
  type PlannedStatement,
  spaceStatements,
} from '../../source/index.js';
import { columnsOf } from '../../store/column.js';
import { copyGrantsSql } from '../../store/column-grants.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { moveSql, waitFor, wasTaken } from '../transition.js';

/** One round of tries for the table's lock; the controller comes back for the next. */
const TRY_MS = 20_000;
const PAUSE_MS = 1_000;

/** All that expanding does, in order: what `plan` shows and `expand` runs. `part`: of the rows, to be filled at first. */
export async function expandStatements(
  db: Executor,
  source: Source,
  to: Space,
  vectorSchema: string,
  part = 1,
): Promise<PlannedStatement[]> {
  const spaces = [...(await listMaintainedSpaces(db, source.id)).filter(({ id }) => id !== to.id), to];
  const target = await readCaptureTarget(db, source, spaces);
  const room = [...spaceStatements(target, to, vectorSchema), ...(await grantStatements(db, target, spaces, to))];
  const capture = await captureForStatements(db, source, spaces);
  const isFree = ({ lock }: PlannedStatement) => lock === NO_LOCK;
  return [
    { sql: insertSpaceSql(to), lock: NO_LOCK, why: 'records the new space' },
    ...flagStatement(source),
    ...[...capture, ...room].filter(isFree),
    ...[...room, ...capture].filter((statement) => !isFree(statement)),
    loadStatement(target, to, part),
  ];
}

/**
 * Makes room for the new vectors, has capture enqueue for both spaces, and has every row that is there visited: all of it
 * with the change of state in one transaction, so there is nothing half done to find. The table is locked for
 * milliseconds, or not at all.
 */
export const expand: Operation = async ({ db, migration, source, to }) => {
  const planned: Space = { ...to, state: 'building' };
  const moving: PlannedStatement = {
    sql: moveSql(migration, 'backfilling', 'the new space is there; edits are embedded for both'),
    lock: NO_LOCK,
    why: 'is done only while the migration is still ours',
  };
  const extension = await db.vectorExtension();
  if (!extension) throw new FreshvecError('pgvector_missing', 'pgvector is not installed: CREATE EXTENSION vector.');
  // A column that is adopted is there.
  const made = columnsOf(to).slice(to.adoption === undefined ? 0 : 1);
  const statements = async (tx: Executor) => {
    const now = await holdSource(tx, source);
    const taken = to.store === 'column' ? await columnsThere(tx, now.relation.oid, made) : [];
    if (taken.length > 0) throw new ColumnsTaken(taken);
    const withFlag = { ...now, flagColumn: flagOf(now, to) };
    return [moving, ...(await expandStatements(tx, withFlag, planned, extension.schema, migration.until))];
  };
  try {
    await executeStatements(db, await lockedTable(db, source), statements, {
      giveUpMs: TRY_MS,
      // Said while it waits, not only when a round of tries is over.
      onRetry: (_, reason) => void waitFor(db, migration, reason).catch(() => {}),
    });
    return MOVED;
  } catch (error) {
    if (wasTaken(error)) return MOVED;
    if (error instanceof ColumnsTaken) return { park: error.message };
    if (error instanceof FreshvecError && error.code === 'lock_not_available') return waits(PAUSE_MS, error.message);
    throw error;
  }
};

/** Somebody made columns of these names since the migration was planned: they are not ours to write to, nor to drop. */
class ColumnsTaken extends Error {
  constructor(names: readonly string[]) {
    super(`there is a column ${names.join(', ')} by now, which somebody else made: \`abort\`, and start again`);
  }
}

/** Searches are about to move from the live columns to the new ones. A table of vectors is shared as a whole. */
async function grantStatements(
  db: Executor,
  target: Pick<CaptureTarget, 'source' | 'relations'>,
  spaces: readonly Space[],
  to: Space,
): Promise<PlannedStatement[]> {
  const live = spaces.find(({ state }) => state === 'live');
  const grants = live === undefined ? [] : await copyGrantsSql(db, target.source, live, to);
  const lock = lockWords('ACCESS EXCLUSIVE', target);
  return grants.map((sql) => ({
    sql,
    lock,
    why: 'lets roles do with the new columns what they may with the old ones',
  }));
}

/** The flag stays the source's own, whatever its live space is called. */
export function flagOf(source: Source, to: Pick<Space, 'store' | 'column'>): string | undefined {
  return source.flagColumn ?? (to.store === 'column' ? `${to.column}_stale` : undefined);
}

function flagStatement({ id, flagColumn }: Source): PlannedStatement[] {
  if (flagColumn === undefined) return [];
  const sql = `UPDATE freshvec.source SET flag_column = ${literal(flagColumn)} WHERE id = ${id} AND flag_column IS NULL`;
  return [{ sql, lock: NO_LOCK, why: 'records the flag' }];
}
