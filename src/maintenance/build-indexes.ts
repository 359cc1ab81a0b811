import { getSourceById } from '../catalog/source.js';
import { listMaintainedSpaces, type Space } from '../catalog/space.js';
import { asSingleton } from '../claim/singleton.js';
import type { Database } from '../db/database.js';
import { type BuildOptions, ensureIndex } from '../store/build-index.js';
import { forEach } from './for-each.js';

/** Rows that may still be on their way when a first pass counts as done. */
const STRAGGLERS = 1000;

/**
 * Builds the index of every space whose first pass over the data is done, one at a time, and mends invalid ones.
 * Resolves to how many were built.
 */
export async function buildIndexes(db: Database, options: BuildOptions = {}): Promise<number> {
  let built = 0;
  await forEach(await listMaintainedSpaces(db), async (space) => {
    options.signal?.throwIfAborted();
    if (space.index.kind === 'none' || !(await isLoaded(db, space))) return;
    const source = await getSourceById(db, space.sourceId);
    if (!source) return;
    await asSingleton(db, `index:${source.relation.oid}`, async (lost) => {
      const signal = options.signal ? AbortSignal.any([lost, options.signal]) : lost;
      if ((await ensureIndex(db, source, space, { ...options, signal })) === 'built') built += 1;
    });
  });
  return built;
}

/** An index built before the vectors are there would make each of them an insert into the graph. */
async function isLoaded(db: Database, space: Space): Promise<boolean> {
  const [row] = await db.query<{ loaded: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM freshvec.range WHERE space_id = $1 AND purpose = 'load')
       AND (SELECT count(*) FROM (SELECT FROM freshvec.lease WHERE space_id = $1 LIMIT $2 + 1) l) <= $2
       AND (SELECT count(*) FROM (SELECT FROM freshvec.change_key WHERE space_id = $1 LIMIT $2 + 1) c) <= $2 AS loaded`,
    [space.id, STRAGGLERS],
  );
  return row?.loaded ?? false;
}
