import { asSingleton } from '../claim/singleton.js';
import type { Database } from '../db/database.js';
import { evictCache as evict } from '../embed/cache.js';

/**
 * Brings the embedding cache back under its bound; 0 empties it. Between two rounds it may be above by what is written
 * meanwhile. One process at a time, as two would each take away the whole excess. Resolves to how many rows went.
 */
export async function evictCache(db: Database, maxBytes: number, stop?: AbortSignal): Promise<number> {
  let evicted = 0;
  await asSingleton(db, 'cache', async (lost) => {
    evicted = await evict(db, { maxBytes, signal: stop ? AbortSignal.any([lost, stop]) : lost });
  });
  return evicted;
}
