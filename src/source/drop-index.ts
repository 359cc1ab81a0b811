import type { Source } from '../catalog/source.js';
import type { Database } from '../db/database.js';
import { lockedTable } from './apply.js';
import { type ExecuteOptions, executeStatements } from './execute.js';

/** Drops an index of a partitioned table, which cannot be done concurrently. `index` is quoted. */
export async function dropUnderLock(
  db: Database,
  source: Source,
  index: string,
  options: ExecuteOptions = {},
): Promise<void> {
  const lock = `ACCESS EXCLUSIVE on ${source.relation.schema}.${source.relation.table}, for milliseconds`;
  const statement = { sql: `DROP INDEX IF EXISTS ${index}`, lock, why: 'drops the index of the whole and its leaves' };
  await executeStatements(db, await lockedTable(db, source), [statement], options);
}
