import { functionsSql, leftoverTriggersSql, readCaptureTarget } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';
import { captureStatements, lockWords } from './statements.js';

/**
 * What makes capture enqueue for exactly these spaces: the functions, the triggers that the present set of stores needs,
 * and the end of those that it does not need any more.
 */
export async function captureForStatements(
  db: Executor,
  source: Source,
  spaces: readonly Pick<Space, 'id' | 'store'>[],
): Promise<PlannedStatement[]> {
  const target = await readCaptureTarget(db, source, spaces);
  const lock = lockWords('ACCESS EXCLUSIVE', target);
  return [
    ...functionsSql(target).map((sql) => ({ sql, lock: NO_LOCK, why: 'defines what the triggers do' })),
    ...(await leftoverTriggersSql(db, target)).map((sql) => ({
      sql,
      lock,
      why: 'takes off what another store needed',
    })),
    ...captureStatements(target),
  ];
}
