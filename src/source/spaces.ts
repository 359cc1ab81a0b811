import { getSpace, type Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/** All spaces of a source whose vectors may still be there. */
export async function listSpaces(db: Executor, sourceId: number): Promise<Space[]> {
  const rows = await db.query<{ id: number }>(
    `SELECT id FROM freshvec.space WHERE source_id = $1 AND state <> 'dropped' ORDER BY id`,
    [sourceId],
  );
  const spaces = await Promise.all(rows.map(({ id }) => getSpace(db, id)));
  return spaces.filter((space) => space !== undefined);
}
