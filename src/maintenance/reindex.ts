import type { Database } from '../db/database.js';
import { isUnmeasurable, measureRecall } from '../search/recall.js';
import type { BuildProgress } from '../store/build-progress.js';
import { readBuild, recordBuild, recordLook, writesOf } from '../store/build-record.js';
import { indexedRelation } from '../store/index-state.js';
import { dropLeftovers } from '../store/leftovers.js';
import { type OwnIndex, ownIndexes } from '../store/own-index.js';
import { rebuildIndex } from '../store/rebuild-index.js';
import { type IndexSize, indexSize } from './bloat.js';
import { forEach } from './for-each.js';
import { BusyError, logged, type RunNotes } from './run-log.js';
import { aloneOnTable, assertFree, either, listTargets, type Target } from './targets.js';
import { isTended } from './tended.js';

export interface ReindexOptions {
  readonly byPerson: boolean;
  /** One source; all of them unless told. */
  readonly source?: string | undefined;
  /** An index so many times as large as it need be is built again. */
  readonly bloatRatio: number;
  /** So is one that finds a smaller share of the nearest 10, if it once found more. */
  readonly recallTarget: number;
  /** Smaller indexes are not worth a rebuild for their size; 16 MB unless told. */
  readonly minBytes?: number | undefined;
  /** Recall is looked at no more often than this, in ms; once a day unless told. */
  readonly lookEveryMs?: number | undefined;
  readonly lockTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

const MIN_BYTES = 16 * 1024 * 1024;
const LOOK_EVERY_MS = 86_400_000;
/** Share of the vectors that must have been written before recall is looked at again. */
const LOOK_AFTER_WRITES = 0.1;
/** By how much recall must have fallen since the build: below that a rebuild would bring nothing. */
const FALLEN = 0.02;
const RECALL = { sample: 50, budgetMs: 30_000 } as const;

/**
 * Builds every vector index of freshvec's again that measured bloat or recall asks for, one at a time and each leaf of
 * a partitioned source by itself. Resolves to how many.
 */
export async function reindex(db: Database, options: ReindexOptions): Promise<number> {
  let rebuilt = 0;
  await forEach(await listTargets(db, options.source), async (target) => {
    options.signal?.throwIfAborted();
    if (target.space.index.kind === 'none' || !(await isTended(db, target.space))) return;
    for (const index of await validIndexes(db, target)) {
      options.signal?.throwIfAborted();
      const why = await reasonFor(db, target, index, options);
      if (why !== undefined && (await rebuildLogged(db, target, index, why, options))) rebuilt += 1;
    }
  });
  return rebuilt;
}

/** Those with vectors in them, under names of freshvec's own. An invalid one is the `index` service's. */
export async function validIndexes(db: Database, { source, space, relations }: Target): Promise<OwnIndex[]> {
  const own = await ownIndexes(db, source, space, relations);
  return relations.flatMap(({ index, partitioned }) => {
    const found = partitioned ? undefined : own.get(index);
    return found?.valid ? [found] : [];
  });
}

/** Why this index is to be built again, in words; undefined where it need not be. */
async function reasonFor(
  db: Database,
  target: Target,
  index: OwnIndex,
  options: ReindexOptions,
): Promise<string | undefined> {
  const bloat = await bloatOf(db, target, index, options);
  if (bloat) return `${bloat.ratio.toFixed(1)} times as large as it need be`;
  return fallenRecall(db, target, index, options);
}

/** Its size, if that asks for a rebuild. What the planner's statistics suspect is counted before it is acted upon. */
export async function bloatOf(
  db: Database,
  { source, space }: Target,
  index: OwnIndex,
  { bloatRatio, minBytes = MIN_BYTES }: Pick<ReindexOptions, 'bloatRatio' | 'minBytes'>,
): Promise<IndexSize | undefined> {
  const { column } = indexedRelation(source, space);
  const asks = ({ bytes, ratio }: IndexSize) => bytes >= minBytes && ratio >= bloatRatio;
  if (!asks(await indexSize(db, space, index, column, { exact: false }))) return undefined;
  const size = await indexSize(db, space, index, column, { exact: true });
  return asks(size) ? size : undefined;
}

async function fallenRecall(
  db: Database,
  target: Target,
  index: OwnIndex,
  options: ReindexOptions,
): Promise<string | undefined> {
  const { recallTarget, lookEveryMs = LOOK_EVERY_MS } = options;
  const { space } = target;
  const { oid } = index.relation;
  const record = await readBuild(db, space.id, oid);
  const size = Math.max(1, record?.vectors ?? 1);
  const writes = await writesOf(db, oid);
  // Statistics that were lost in a crash begin at 0 again.
  const since = (before: number | null | undefined) =>
    before == null || writes < before ? Number.POSITIVE_INFINITY : writes - before;
  const early = (record?.lookedMsAgo ?? Number.POSITIVE_INFINITY) < lookEveryMs;
  if (early || since(record?.lookedWrites) < LOOK_AFTER_WRITES * size) return undefined;
  const recall = await recallOf(db, target, index, options);
  if (recall === undefined) return undefined;
  const ofBuild = record !== undefined && record.recall === null && since(record.writes) < LOOK_AFTER_WRITES * size;
  await recordLook(db, space, oid, recall, { ofBuild });
  const best = ofBuild ? recall : (record?.recall ?? 1);
  if (recall >= recallTarget || best - recall < FALLEN) return undefined;
  return `it finds ${percent(recall)} of the nearest 10, below the target of ${percent(recallTarget)}`;
}

/** Undefined where the planner does not use the index, or there is nothing to search. */
async function recallOf(
  db: Database,
  { source, space }: Target,
  { relation, name }: OwnIndex,
  { signal }: Pick<ReindexOptions, 'signal'>,
): Promise<number | undefined> {
  try {
    const measured = await measureRecall(db, source, space, { ...RECALL, relation, indexName: name, signal });
    return measured.queries > 0 ? measured.recall : undefined;
  } catch (error) {
    if (isUnmeasurable(error)) return undefined;
    throw error;
  }
}

/** One rebuild, measured before and after. Resolves to false when somebody else holds the table. */
export function rebuildLogged(
  db: Database,
  target: Target,
  index: OwnIndex,
  why: string,
  options: Pick<ReindexOptions, 'byPerson' | 'lockTimeoutMs' | 'signal' | 'onProgress'>,
): Promise<boolean> {
  const { schema, name } = index.relation;
  const about = {
    ...{ service: 'reindex', byPerson: options.byPerson, source: target.source.name },
    ...{ relation: `${schema}.${name}`, index: index.name, did: `rebuilding: ${why}` },
  };
  return logged(db, about, (notes) =>
    aloneOnTable(db, target, (lost) =>
      rebuildAlone(db, target, index, why, notes, { ...options, signal: either(lost, options.signal) }),
    ),
  );
}

/** The same for whoever is alone on the table already. */
export async function rebuildAlone(
  db: Database,
  target: Target,
  index: OwnIndex,
  why: string,
  notes: RunNotes,
  options: Pick<ReindexOptions, 'lockTimeoutMs' | 'signal' | 'onProgress'>,
): Promise<void> {
  const { source, space } = target;
  await assertFree(db, index.relation);
  await dropLeftovers(db, source, space, options.signal);
  Object.assign(notes, defined({ bytesBefore: index.bytes, recallBefore: await recallOf(db, target, index, options) }));
  await rebuildIndex(db, source, space, index, options);
  const built = (await validIndexes(db, target)).find(({ name }) => name === index.name);
  if (!built) throw new BusyError(`The index ${index.name} was taken away while it was built again.`);
  await recordBuild(db, space, built.relation, built.name);
  const recall = await recallOf(db, target, built, options);
  if (recall !== undefined) await recordLook(db, space, index.relation.oid, recall, { ofBuild: true });
  Object.assign(notes, defined({ bytesAfter: built.bytes, recallAfter: recall, did: `rebuilt: ${why}` }));
}

function defined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
