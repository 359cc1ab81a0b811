import { isMigrating } from '../catalog/migration.js';
import type { Space } from '../catalog/space.js';
import { isLoaded } from '../claim/pending.js';
import type { Executor } from '../db/database.js';

/**
 * Whether upkeep may touch a space: the first pass over its rows is done, as an index built before would make each vector
 * an insert into its graph, and no migration fills it, which builds its index itself.
 */
export async function isTended(db: Executor, space: Space): Promise<boolean> {
  return (await isLoaded(db, space.id)) && !(await isMigrating(db, space.id));
}
