import type { Migration } from '../../catalog/migration.js';
import { getSpace } from '../../catalog/space.js';
import type { Database } from '../../db/database.js';
import { dropTableSql } from '../../store/table.js';
import { MOVED, type StepOutcome } from '../operation.js';
import { endOfContraction } from '../states.js';
import { move } from '../transition.js';
import { deleteWork, SPACE_RECORDS } from './contract.js';

/**
 * Ends a contraction whose source table was dropped: triggers, columns and index went with it, and what has its name now
 * is somebody else's. What is left is freshvec's own.
 */
export async function contractWithoutTable(db: Database, migration: Migration): Promise<StepOutcome> {
  const next = endOfContraction(migration);
  const id = migration.dropSpaceId ?? migration.toSpaceId;
  const doomed = await getSpace(db, id);
  await db.tx(async (tx) => {
    if (!(await move(tx, migration, next, { what: `space ${id} went with its table` }))) return;
    await tx.query(`UPDATE freshvec.space SET state = 'dropped' WHERE id = $1`, [id]);
    for (const table of SPACE_RECORDS) await tx.query(`DELETE FROM freshvec.${table} WHERE space_id = $1`, [id]);
    if (doomed?.store === 'table') for (const sql of dropTableSql(doomed)) await tx.query(sql);
  });
  await deleteWork(db, id);
  return MOVED;
}
