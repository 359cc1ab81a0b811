import { listRelations } from '../capture/index.js';
import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import type { SourcePlan } from './definition.js';
import { type ExecuteOptions, executeStatements, type LockedTable } from './execute.js';
import { refuseRestless } from './restless.js';

/**
 * Does what the plan says, all of it or nothing, without making the app wait.
 * Throws FreshvecError `lock_not_available` naming who held the table, or `source_exists` when somebody was faster, and
 * SourceRefused where triggers of the app would never let the rows come to rest.
 */
export async function applySource(db: Database, plan: SourcePlan, options: ExecuteOptions = {}): Promise<void> {
  if (plan.already) return;
  const { source, space } = plan;
  if (space.store === 'column') await refuseRestless(db, source);
  try {
    await executeStatements(db, await lockedTable(db, source), plan.statements, options);
  } catch (error) {
    if (sqlState(error) !== '23505') throw error;
    throw new FreshvecError(
      'source_exists',
      `A source "${source.name}" was added meanwhile. Plan again to see whether it is the same.`,
      { cause: error },
    );
  }
}

export async function lockedTable(db: Executor, source: Source): Promise<LockedTable> {
  const relations = await listRelations(db, source.relation.oid);
  return { oid: source.relation.oid, name: fromSource(source), relations: relations.length };
}

/** The plan as a file for those whose migration tool owns the schema: the statements that `applySource` would run. */
export function planSql(plan: SourcePlan): string {
  const { source, space, statements } = plan;
  const parts = statements.map(({ sql, lock, why }) => `-- ${why}; lock: ${lock.replaceAll('\n', ' ')}\n${sql};\n`);
  return [
    `-- freshvec: source ${JSON.stringify(source.name)} (id ${source.id}, space ${space.id}).`,
    '-- For the database that it was made for: the ids are reserved there. Run as the role that runs freshvec,',
    '-- then `freshvec source add` with the same options finds it done.',
    'BEGIN;',
    '-- Do not queue behind long transactions: whoever comes later would wait too. If this fails, run the file again.',
    `SET LOCAL lock_timeout = '1s';`,
    '',
    ...parts,
    'COMMIT;',
    '',
  ].join('\n');
}
