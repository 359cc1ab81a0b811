import type { Migration } from '../../catalog/migration.js';
import { getSpace } from '../../catalog/space.js';
import type { Database } from '../../db/database.js';
import { executeStatements, NO_LOCK } from '../../source/index.js';
import { MOVED, type StepOutcome } from '../operation.js';
import { endOfContraction } from '../states.js';
import { moveSql } from '../transition.js';
import { deleteWork, dropTable, endSpace, endVisits, laterOrThrow, OURS_ONLY } from './contract.js';

/**
 * Ends a contraction whose source table was dropped: triggers, columns and index went with it, and what has its name now
 * is somebody else's. What is left is freshvec's own.
 */
export async function contractWithoutTable(db: Database, migration: Migration): Promise<StepOutcome> {
  const id = migration.dropSpaceId ?? migration.toSpaceId;
  const moved = moveSql(migration, endOfContraction(migration), `space ${id} went with its table`);
  const statements = [{ sql: moved, lock: NO_LOCK, why: OURS_ONLY }, ...endSpace(id)];
  const doomed = await getSpace(db, id);
  try {
    await deleteWork(db, id);
    if (doomed?.store === 'table') await dropTable(db, doomed, statements);
    else {
      await executeStatements(db, undefined, [...statements, endVisits(id)]);
      await deleteWork(db, id);
    }
  } catch (error) {
    return laterOrThrow(error);
  }
  return MOVED;
}
