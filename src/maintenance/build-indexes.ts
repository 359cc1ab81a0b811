import type { Database } from '../db/database.js';
import { type BuildOptions, ensureIndex } from '../store/build-index.js';
import { indexName } from '../store/index-state.js';
import { dropLeftovers } from '../store/leftovers.js';
import { ownIndexes } from '../store/own-index.js';
import { forEach } from './for-each.js';
import { BusyError, logAfterwards } from './run-log.js';
import { dropIndex, swapIndex } from './swap-index.js';
import { aloneOnTable, either, listTargets, type Target } from './targets.js';
import { isTended } from './tended.js';

export interface BuildIndexesOptions extends BuildOptions {
  /** One source; all of them unless told. */
  readonly source?: string | undefined;
  readonly byPerson?: boolean | undefined;
}

/**
 * Builds the index of every space whose first pass over the data is done, one at a time; mends invalid ones, drops what
 * a killed REINDEX left of them, and goes on with a change of their parameters, or with dropping one that nobody asks for
 * any more. Resolves to how many were built.
 */
export async function buildIndexes(db: Database, options: BuildIndexesOptions = {}): Promise<number> {
  let built = 0;
  await forEach(await listTargets(db, options.source), async (target) => {
    options.signal?.throwIfAborted();
    if (!(await isTended(db, target.space)) || (await isWithout(db, target))) return;
    const { source, space } = target;
    const byPerson = options.byPerson ?? false;
    const about = { service: 'index', byPerson, source: source.name, index: indexName(space) };
    try {
      await aloneOnTable(db, target, async (lost) => {
        const did = await converge(db, target, { ...options, signal: either(lost, options.signal) });
        if (did === undefined) return;
        if (did === 'built') built += 1;
        await logAfterwards(db, { ...about, did: `${did} ${about.index}` }, 'done');
      });
    } catch (error) {
      if (!(error instanceof BusyError)) throw error;
      // A person is not told that there was nothing to do; the service comes by again.
      if (byPerson) await logAfterwards(db, { ...about, did: `looked at ${about.index}` }, 'busy', error.message);
    }
  });
  return built;
}

/** No index is asked for, and there is none. */
async function isWithout(db: Database, { source, space, relations }: Target): Promise<boolean> {
  return space.index.kind === 'none' && (await ownIndexes(db, source, space, relations)).size === 0;
}

/** For whoever is alone on the table: brings the space's index to what the catalog asks for. Resolves to what that took. */
export async function converge(
  db: Database,
  target: Target,
  options: BuildOptions,
): Promise<'built' | 'dropped' | undefined> {
  const { source, space } = target;
  await dropLeftovers(db, source, space, options.signal);
  if (space.index.kind === 'none') {
    // Before the index: whoever finds none looks no further.
    await db.query('DELETE FROM freshvec.index_build WHERE space_id = $1', [space.id]);
    return (await dropIndex(db, target, options)) > 0 ? 'dropped' : undefined;
  }
  const swapped = await swapIndex(db, target, options);
  const outcome = await ensureIndex(db, source, space, options);
  if (outcome === 'building') throw new BusyError(`Another session builds an index of "${source.name}".`);
  return swapped || outcome === 'built' ? 'built' : undefined;
}
