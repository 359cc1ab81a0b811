import { type Space, standsSql } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';

/** The space's columns were renamed under whoever holds this store: look the space up again. */
export function spaceRenamed(space: Space): FreshvecError {
  return new FreshvecError(
    'space_renamed',
    `The columns of space ${space.id} are not called ${space.column} any more: look it up again.`,
  );
}

/**
 * Throws FreshvecError `space_renamed`. After the statement that named the columns, in its transaction: that one holds
 * the table's lock, so what is true now was true of it.
 */
export async function assertStands(tx: Executor, space: Space): Promise<void> {
  const [row] = await tx.query<{ stands: boolean }>(`SELECT ${standsSql(space)} AS stands`);
  if (!row?.stands) throw spaceRenamed(space);
}
