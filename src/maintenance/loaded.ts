import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/** Rows that may still be on their way when a first pass counts as done. */
const STRAGGLERS = 1000;

/** The first pass over the data is done. An index built before would make each vector an insert into its graph. */
export async function isLoaded(db: Executor, space: Space): Promise<boolean> {
  const [row] = await db.query<{ loaded: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM freshvec.range WHERE space_id = $1 AND purpose = 'load')
       AND (SELECT count(*) FROM (SELECT FROM freshvec.lease WHERE space_id = $1 LIMIT $2 + 1) l) <= $2
       AND (SELECT count(*) FROM (SELECT FROM freshvec.change WHERE space_id = $1 LIMIT $2 + 1) c) <= $2 AS loaded`,
    [space.id, STRAGGLERS],
  );
  return row?.loaded ?? false;
}
