import { MOVED, type Operation, waits } from '../operation.js';
import { lostGround, whyNotSwitchable } from '../switchable.js';
import { recede } from '../transition.js';
import { switchTo } from './switch.js';

const LOOK_MS = 5_000;

/**
 * Waits for a person's `cutover`; goes on by itself where it was started with `--auto`. Pages that came meanwhile, with a
 * partition, are visited first, and an index that went is built again.
 */
export const ready: Operation = async ({ db, migration, source, to }) => {
  const lost = await lostGround(db, source, to);
  if (lost !== undefined) {
    await db.tx((tx) => recede(tx, migration, lost));
    return MOVED;
  }
  if (!migration.auto) return waits(LOOK_MS, null);
  const why = await whyNotSwitchable(db, source, migration);
  if (why !== undefined) return waits(LOOK_MS, why);
  await db.tx((tx) => switchTo(tx, migration, 'soaking'));
  return MOVED;
};
