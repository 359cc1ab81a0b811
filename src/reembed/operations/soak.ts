import type { Executor } from '../../db/database.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { oldReaders } from '../readers.js';
import { contractTo } from './contract.js';
import { dependents, whyKept } from './dependents.js';

const LOOK_MS = 5_000;

/**
 * Both spaces are kept fresh, so that a rollback loses nothing. Nothing is dropped by a clock, unless the migration was
 * started with a time to retain the old space.
 */
export const soak: Operation = async ({ db, migration, source, from }) => {
  if (migration.retainSeconds === undefined || !(await isOver(db, migration.id))) return waits(LOOK_MS, null);
  const readers = await oldReaders(db, migration.sourceId);
  if (readers.length > 0)
    return waits(LOOK_MS, `the time to retain is over; waits for readers of the old space: ${readers.join(', ')}`);
  const standing = await dependents(db, source, from);
  if (standing.length > 0) return waits(LOOK_MS, `the time to retain is over; ${whyKept(standing)}`);
  await db.tx((tx) => contractTo(tx, migration, migration.fromSpaceId, 'the time to retain the old space is over'));
  return MOVED;
};

async function isOver(db: Executor, id: number): Promise<boolean> {
  const [row] = await db.query<{ over: boolean }>(
    'SELECT switched_at + retain <= clock_timestamp() AS over FROM freshvec.migration WHERE id = $1',
    [id],
  );
  return row?.over ?? false;
}
