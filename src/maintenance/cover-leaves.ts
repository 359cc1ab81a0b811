import { readCaptureTarget } from '../capture/index.js';
import { listSources, type Source } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { lockedTable } from '../source/apply.js';
import { executeStatements } from '../source/execute.js';
import { insertLoadRanges } from '../source/ranges.js';
import { captureStatements } from '../source/statements.js';
import { forEach } from './for-each.js';

/** A partition whose lock is not to be had is left for the next round. */
const GIVE_UP_MS = 5_000;

/**
 * Puts capture on partitions that were created or attached since, and has what is in their source looked at: rows came
 * in unseen. Resolves to how many sources were covered anew.
 */
export async function coverLeaves(db: Database): Promise<number> {
  let covered = 0;
  await forEach(await listSources(db), async (source) => {
    if (!(await hasBareRelation(db, source))) return;
    const spaces = await listMaintainedSpaces(db, source.id);
    const target = await readCaptureTarget(db, source, spaces);
    await executeStatements(db, await lockedTable(db, source), captureStatements(target), { giveUpMs: GIVE_UP_MS });
    await db.tx(async (tx) => {
      for (const space of spaces) await insertLoadRanges(tx, source, space.id, 'sweep');
    });
    covered += 1;
  });
  return covered;
}

/** Whether a partition of the source lacks the statement trigger; those of a row clone themselves. */
async function hasBareRelation(db: Database, source: Source): Promise<boolean> {
  const rows = await db.query(
    `SELECT 1 FROM pg_partition_tree((SELECT oid FROM pg_class WHERE oid = $1)::regclass) p
     WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = p.relid AND t.tgname = $2) LIMIT 1`,
    [source.relation.oid, `freshvec_insert_${source.id}`],
  );
  return rows.length > 0;
}
