import { setSpaceCap } from '../../budget/space-cap.js';
import type { Migration, MigrationState } from '../../catalog/migration.js';
import { getSourceById } from '../../catalog/source.js';
import type { Executor } from '../../db/database.js';
import { insertLoadRanges } from '../../source/index.js';
import { move } from '../transition.js';

type Direction = Extract<MigrationState, 'soaking' | 'rolled_back'>;

/**
 * Points searches at the other space: one row, and the epoch grows by one. Searches under way finish on the space that
 * they began with; every process notices in the very statement that reads vectors. Both spaces stay maintained. False,
 * and nothing done, where the migration was moved by somebody else meanwhile.
 */
export async function switchTo(tx: Executor, migration: Migration, direction: Direction): Promise<boolean> {
  const [live, retained] =
    direction === 'soaking'
      ? [migration.toSpaceId, migration.fromSpaceId]
      : [migration.fromSpaceId, migration.toSpaceId];
  const what =
    direction === 'soaking'
      ? 'searches are answered from the new space'
      : 'searches are answered from the old space again';
  if (!(await move(tx, migration, direction, { what }))) return false;
  await Promise.all([
    // It bounds what the move costs; what searches are answered from must not rest for it.
    direction === 'soaking' && setSpaceCap(tx, migration.toSpaceId, undefined),
    tx.query(`UPDATE freshvec.space SET state = CASE id WHEN $1 THEN 'live' ELSE 'retained' END WHERE id IN ($1, $2)`, [
      live,
      retained,
    ]),
    tx.query('UPDATE freshvec.pointer SET epoch = epoch + 1, space_id = $2 WHERE source_id = $1 AND space_id <> $2', [
      migration.sourceId,
      live,
    ]),
    passOnFlags(tx, migration, live, retained),
  ]);
  return true;
}

/** Keys that are passed on one by one; beyond that every row is looked at once more, in the background. */
const PASSED_ON = 1000;

/**
 * A flag comes down with the last write of its row. What the former live space still has to do is looked at by the new one
 * too, since the former may be long in doing it, and the flag says nothing of it any more.
 */
async function passOnFlags(tx: Executor, migration: Migration, live: number, retained: number): Promise<void> {
  const pending = await tx.query<{ key: string }>(
    `SELECT DISTINCT key FROM (
       (SELECT key FROM freshvec.change_key WHERE space_id = $1 LIMIT ${PASSED_ON + 1})
       UNION ALL (SELECT key FROM freshvec.lease WHERE space_id = $1 LIMIT ${PASSED_ON + 1})) pending`,
    [retained],
  );
  if (pending.length <= PASSED_ON) {
    const keys = pending.map(({ key }) => key);
    if (keys.length === 0) return;
    await tx.query('INSERT INTO freshvec.change (space_id, lane, key) SELECT $1, 1, unnest($2::text[])', [live, keys]);
    return;
  }
  const source = await getSourceById(tx, migration.sourceId);
  if (source) await insertLoadRanges(tx, source, live, 'sweep');
}
