import { getSpace, type Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/** All spaces of a source whose vectors may still be there, those included that a migration is dropping. */
export async function listSpaces(db: Executor, sourceId: number): Promise<Space[]> {
  const rows = await db.query<{ id: number }>(
    `SELECT id FROM freshvec.space s WHERE source_id = $1 AND (state <> 'dropped' OR EXISTS (
       SELECT FROM freshvec.migration m WHERE m.drop_space = s.id AND m.state NOT IN ('done', 'aborted')))
     ORDER BY id`,
    [sourceId],
  );
  const spaces = await Promise.all(rows.map(({ id }) => getSpace(db, id)));
  return spaces.filter((space) => space !== undefined);
}
