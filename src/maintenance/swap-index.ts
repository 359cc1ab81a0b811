import type { Database } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { noBuild } from '../db/index-builds.js';
import { dropUnderLock } from '../source/index.js';
import { type BuildOptions, ensureIndex } from '../store/build-index.js';
import { recordBuild } from '../store/build-record.js';
import { briefly, longSession } from '../store/index-session.js';
import { asAsked, NEXT, type OwnIndex, ownIndexes } from '../store/own-index.js';
import { BusyError } from './run-log.js';
import type { Target } from './targets.js';

/**
 * Puts an index with the parameters that the space asks for in the place of one with others, while searches go on: the
 * new one is built beside it (`NAME_next`), concurrently; then the old one is dropped, concurrently; then the new one
 * gets its name. Each step is read off the catalog, so whoever comes after a kill goes on where it was. To be run alone
 * on the table. Resolves to whether it swapped.
 *
 * An index of a partitioned source is dropped as a whole, under a lock on the table for milliseconds: PostgreSQL drops
 * no such index concurrently.
 */
export async function swapIndex(db: Database, target: Target, options: BuildOptions): Promise<boolean> {
  const { source, space, relations } = target;
  const own = () => ownIndexes(db, source, space, relations);
  const found = await own();
  const isNext = ({ name, relation }: OwnIndex) => name === relation.index + NEXT;
  const begun = [...found.values()].filter(isNext);
  const others = [...found.values()].filter((index) => !isNext(index) && index.valid && !asAsked(index, space));
  if (begun.length === 0 && others.length === 0) return false;

  for (const index of begun.filter(({ relation }) => relation.parent === null && relation.partitioned)) {
    if (!asAsked(index, space)) await drop(db, target, index, options);
  }
  // Whoever changed his mind has the old one with the old parameters: then only the new one goes.
  const back = others.length === 0 && relations.every(({ index }) => found.get(index)?.valid);
  if (back) {
    await dropAll(db, target, begun, options);
    return false;
  }
  const outcome = await ensureIndex(db, source, space, { ...options, next: true });
  if (outcome === 'building') throw new BusyError(`Another session builds an index of "${source.name}".`);

  options.signal?.throwIfAborted();
  await dropAll(
    db,
    target,
    [...(await own()).values()].filter((index) => !isNext(index)),
    options,
  );
  const next = [...(await own()).values()].filter(isNext);
  for (const { name, relation } of next) if (!relation.partitioned) await recordBuild(db, space, relation, name);
  // All at once: half of a partitioned table's would look like one that was begun, and one that is there already.
  const renames = next.map(
    ({ name, relation: { schema, index } }) => `ALTER INDEX ${qualified(schema, name)} RENAME TO ${ident(index)}`,
  );
  await briefly(db, renames, options.signal);
  return true;
}

/** Drops the index of a space for good. To be run alone on the table, once nobody asks for it. Resolves to how many. */
export async function dropIndex(db: Database, target: Target, options: BuildOptions): Promise<number> {
  const { source, space, relations } = target;
  const own = [...(await ownIndexes(db, source, space, relations)).values()];
  await dropAll(db, target, own, options);
  return own.length;
}

/** The index of a partitioned parent takes those of the leaves along. */
async function dropAll(
  db: Database,
  target: Target,
  indexes: readonly OwnIndex[],
  options: BuildOptions,
): Promise<void> {
  const roots = indexes.filter(({ relation }) => relation.parent === null);
  for (const index of roots) await drop(db, target, index, options);
  const left = new Set((await ownIndexes(db, target.source, target.space, target.relations)).keys());
  for (const index of indexes) {
    if (left.has(index.name) && !index.relation.partitioned) await drop(db, target, index, options);
  }
}

async function drop(db: Database, { source }: Target, { name, relation }: OwnIndex, { signal }: BuildOptions) {
  const index = qualified(relation.schema, name);
  if (relation.partitioned) return dropUnderLock(db, source, index);
  await noBuild(db, relation.oid, signal);
  // No time-out: it would leave an invalid index, and the new one serves already.
  await longSession(db, { lockTimeoutMs: 0, signal }, (session) =>
    session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${index}`),
  );
}
