import { isMigrating } from '../catalog/migration.js';
import { getSourceById } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import { isLoaded } from '../claim/pending.js';
import { asSingleton } from '../claim/singleton.js';
import type { Database } from '../db/database.js';
import { type BuildOptions, ensureIndex } from '../store/build-index.js';
import { forEach } from './for-each.js';

/**
 * Builds the index of every space whose first pass over the data is done, one at a time, and mends invalid ones. A space
 * that a migration fills is left to the migration. An index built before the vectors are there would make each of them
 * an insert into the graph.
 * Resolves to how many were built.
 */
export async function buildIndexes(db: Database, options: BuildOptions = {}): Promise<number> {
  let built = 0;
  await forEach(await listMaintainedSpaces(db), async (space) => {
    options.signal?.throwIfAborted();
    if (space.index.kind === 'none' || !(await isLoaded(db, space.id)) || (await isMigrating(db, space.id))) return;
    const source = await getSourceById(db, space.sourceId);
    if (!source) return;
    await asSingleton(db, `index:${source.relation.oid}`, async (lost) => {
      const signal = options.signal ? AbortSignal.any([lost, options.signal]) : lost;
      if ((await ensureIndex(db, source, space, { ...options, signal })) === 'built') built += 1;
    });
  });
  return built;
}
