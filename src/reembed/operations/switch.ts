import type { Migration, MigrationState } from '../../catalog/migration.js';
import type { Executor } from '../../db/database.js';
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
  // A space's row first, the pointer last: it is what searches wait for, if they wait at all.
  await tx.query(
    `UPDATE freshvec.space SET state = CASE id WHEN $1 THEN 'live' ELSE 'retained' END WHERE id IN ($1, $2)`,
    [live, retained],
  );
  await tx.query(
    'UPDATE freshvec.pointer SET epoch = epoch + 1, space_id = $2 WHERE source_id = $1 AND space_id <> $2',
    [migration.sourceId, live],
  );
  await passOnFlags(tx, live, retained);
  return true;
}

/**
 * Flags are lowered by the live space only: what the former one still had to do is looked at by the new one too, else a
 * flag that is up for the former would stay up until the next sweep.
 */
async function passOnFlags(tx: Executor, live: number, retained: number): Promise<void> {
  await tx.query(
    `INSERT INTO freshvec.change (space_id, lane, key, tenant)
     SELECT $1, 1, key, tenant FROM (
       (SELECT key, tenant FROM freshvec.change WHERE space_id = $2 AND lane = 0 LIMIT 1000)
       UNION (SELECT key, tenant FROM freshvec.lease WHERE space_id = $2 LIMIT 1000)) pending`,
    [live, retained],
  );
}
