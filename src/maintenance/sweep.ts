import { getSource, getSourceById } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { insertLoadRanges } from '../source/ranges.js';
import { forEach } from './for-each.js';

/**
 * Has every row of every source looked at once more, by its hash: what capture could not see (triggers that were
 * disabled, rows that MERGE moved between partitions) becomes work, and so do vectors whose row is gone. A space that
 * is still being visited is left alone. Resolves to how many spaces are swept.
 */
export async function sweep(db: Database, sourceName?: string): Promise<number> {
  let swept = 0;
  if (sourceName !== undefined) await getSource(db, sourceName);
  await forEach(await listMaintainedSpaces(db), async (space) => {
    const source = await getSourceById(db, space.sourceId);
    if (!source || (sourceName !== undefined && source.name !== sourceName)) return;
    swept += await db.tx(async (tx) => {
      // The row lock keeps two sweepers apart, and nobody who refers to the space: a TRUNCATE of the app's does.
      await tx.query('SELECT 1 FROM freshvec.space WHERE id = $1 FOR NO KEY UPDATE', [space.id]);
      const [visiting] = await tx.query('SELECT 1 FROM freshvec.range WHERE space_id = $1 LIMIT 1', [space.id]);
      if (visiting) return 0;
      await insertLoadRanges(tx, source, space.id, 'sweep');
      await tx.query(
        `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
         VALUES ($1, 'prune', $2, 0, 0, 0)`,
        [space.id, source.relation.oid],
      );
      return 1;
    });
  });
  return swept;
}
