import { indexState } from '../../store/vector-indexes.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { whyNotSwitchable } from '../switchable.js';
import { move } from '../transition.js';
import { switchTo } from './switch.js';

const LOOK_MS = 5_000;

/** Waits for a person's `cutover`; goes on by itself where it was started with `--auto`. An index that went meanwhile is built again. */
export const ready: Operation = async ({ db, migration, source, to }) => {
  if (to.index.kind !== 'none' && (await indexState(db, source, to)) !== 'valid') {
    await db.tx(async (tx) => {
      if (!(await move(tx, migration, 'backfilling', { what: 'the index is gone: it is built again' }))) return;
      await tx.query(`UPDATE freshvec.space SET state = 'building' WHERE id = $1 AND state = 'ready'`, [to.id]);
    });
    return MOVED;
  }
  if (!migration.auto) return waits(LOOK_MS, null);
  const why = await whyNotSwitchable(db, source, migration);
  if (why !== undefined) return waits(LOOK_MS, why);
  await db.tx((tx) => switchTo(tx, migration, 'soaking'));
  return MOVED;
};
