import { functionsSql, readCaptureTarget } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { lockedTable } from './apply.js';
import { currentSource, holdSource } from './current.js';
import { NO_LOCK } from './definition.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { captureStatements } from './statements.js';

/**
 * Makes the triggers anew where the app got BEFORE UPDATE triggers of its own since they were made: one that may
 * rewrite columns which the statement does not name, or that fires after ours. What went unseen meanwhile is the
 * sweeper's. Resolves to whether that was so.
 */
export async function followOwnTriggers(
  db: Database,
  recorded: Source,
  options: ExecuteOptions = {},
): Promise<boolean> {
  const source = await currentSource(db, recorded);
  if (source?.flagColumn === undefined) return false;
  const targetOf = async (tx: Executor, now: Source) =>
    readCaptureTarget(tx, now, await listMaintainedSpaces(tx, now.id));
  const { rewritten, overruled } = await targetOf(db, source);
  const { narrow, byFlag } = await installed(db, source);
  if (!(rewritten && narrow) && !(overruled && byFlag)) return false;
  const statements = async (tx: Executor) => {
    const target = await targetOf(tx, await holdSource(tx, source));
    return [
      ...functionsSql(target).map((sql) => ({ sql, lock: NO_LOCK, why: 'defines what the triggers do' })),
      ...captureStatements(target),
    ];
  };
  await executeStatements(db, await lockedTable(db, source), statements, options);
  return true;
}

/** `narrow`: the flag's trigger fires for some columns only. `byFlag`: changes are told by the flag, not by comparing. */
async function installed(db: Executor, { id, relation }: Source): Promise<{ narrow: boolean; byFlag: boolean }> {
  const [row] = await db.query<{ narrow: boolean | null; by_flag: boolean | null }>(
    `SELECT bool_or(t.tgname = 'zzz_freshvec_flag_' || $2::int AND cardinality(t.tgattr::int2[]) > 0) AS narrow,
       bool_or(t.tgname = 'freshvec_update_' || $2::int AND t.tgoldtable IS NULL) AS by_flag
     FROM pg_trigger t WHERE t.tgrelid = $1`,
    [relation.oid, id],
  );
  return { narrow: row?.narrow ?? false, byFlag: row?.by_flag ?? false };
}
