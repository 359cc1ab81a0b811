import type { Migration } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import { getSpace, type Space } from '../catalog/space.js';
import { countLoadRanges } from '../claim/pending.js';
import type { Executor } from '../db/database.js';
import { indexState } from '../store/vector-indexes.js';
import { pendingGate } from './gates/pending.js';
import { standsOn } from './ground.js';

/** Longest that an edit may wait for its vector in the new space when searches are switched to it, in s. */
const PENDING_SECONDS = 60;
const GONE = 'the new vectors are not there any more';

/**
 * Why searches must not be switched to the new space just now, with what to do; undefined where they may. The gates held
 * when it became ready, or it was live before; this is what can have broken since, and is cheap to look at.
 */
export async function whyNotSwitchable(
  db: Executor,
  source: Source,
  migration: Migration,
): Promise<string | undefined> {
  const to = await getSpace(db, migration.toSpaceId);
  if (!to) return GONE;
  const [stands, indexed, ranges, pending] = await Promise.all([
    standsOn(db, migration, source, to),
    isIndexed(db, source, to),
    countLoadRanges(db, to.id),
    pendingGate({ db, to, settings: { pendingSeconds: PENDING_SECONDS } }),
  ]);
  if (!stands) return GONE;
  if (!indexed)
    return 'the index of the new space is not there or not valid any more: `freshvec maintain run index` builds it';
  // Not for a person to accept: these rows have no vector yet, or that of another content.
  if (ranges > 0)
    return 'pages have come up whose rows have no new vectors yet: they are being visited, `reembed status` says how far it is';
  const { name, passed, value, note } = pending;
  if (passed || migration.accepted.includes(name)) return undefined;
  return `searches would miss rows that still wait for their new vectors (${value} ${note}); \`reembed accept ${source.name} ${name}\` lets that pass`;
}

/** What was there when the space was checked, or before, and has to be made again: pages, or the index. In words. */
export async function lostGround(db: Executor, source: Source, to: Space): Promise<string | undefined> {
  if ((await countLoadRanges(db, to.id)) > 0) return 'pages came that were not visited yet';
  return (await isIndexed(db, source, to)) ? undefined : 'the index is gone: it is built again';
}

/** As the space wants it: with a valid index, or with none. */
async function isIndexed(db: Executor, source: Source, to: Space): Promise<boolean> {
  return to.index.kind === 'none' || (await indexState(db, source, to)) === 'valid';
}
