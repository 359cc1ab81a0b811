import type { Migration } from '../../catalog/migration.js';
import { getSpace } from '../../catalog/space.js';
import type { Database, Executor } from '../../db/database.js';
import { classify } from '../../db/errors.js';
import { dropTableSql, vectorTable } from '../../store/table.js';
import { MOVED, type StepOutcome, waits } from '../operation.js';
import { endOfContraction } from '../states.js';
import { move } from '../transition.js';
import { deleteWork, SPACE_RECORDS } from './contract.js';

const LOCK_MS = 80;
const PAUSE_MS = 1_000;

/**
 * Ends a contraction whose source table was dropped: triggers, columns and index went with it, and what has its name now
 * is somebody else's. What is left is freshvec's own.
 */
export async function contractWithoutTable(db: Database, migration: Migration): Promise<StepOutcome> {
  const next = endOfContraction(migration);
  const id = migration.dropSpaceId ?? migration.toSpaceId;
  const doomed = await getSpace(db, id);
  const drop = async (tx: Executor) => {
    // A dump that reads the vectors is not waited for: whoever asks about the migration would wait behind this.
    await tx.query(`SET LOCAL lock_timeout = '${LOCK_MS}ms'`);
    if (!(await move(tx, migration, next, { what: `space ${id} went with its table` }))) return;
    await tx.query(`UPDATE freshvec.space SET state = 'dropped' WHERE id = $1`, [id]);
    for (const table of SPACE_RECORDS) await tx.query(`DELETE FROM freshvec.${table} WHERE space_id = $1`, [id]);
    if (doomed?.store === 'table') for (const sql of dropTableSql(doomed)) await tx.query(sql);
  };
  try {
    await db.tx(drop);
  } catch (error) {
    if (classify(error) !== 'lock_timeout') throw error;
    return waits(PAUSE_MS, `the table of its vectors, ${doomed && vectorTable(doomed)}, is in use`);
  }
  await deleteWork(db, id);
  return MOVED;
}
