import { getSource } from '../catalog/source.js';
import { getSpace, liveSpace, type Space, setSpaceIndex } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { isUnmeasurable, measureRecall } from '../search/recall.js';
import type { BuildProgress } from '../store/build-progress.js';
import { asAsked, ownIndexes, vectorRelations } from '../store/own-index.js';
import { converge } from './build-indexes.js';
import { rebuildLogged, validIndexes } from './reindex.js';
import { BusyError, listRuns, logged, type MaintenanceRun, readClock } from './run-log.js';
import { asOnlyHeavy, refuseBusy } from './services.js';
import { aloneOnTable, either, type Target } from './targets.js';
import { isTended } from './tended.js';

/** What is asked for; nothing: the index as it is, built again. What is left open stays. */
export interface ReindexRequest {
  readonly index?: 'hnsw' | 'none' | undefined;
  readonly m?: number | undefined;
  readonly efConstruction?: number | undefined;
}

export interface ReindexSourceOptions {
  readonly lockTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

export interface ReindexReport {
  readonly source: string;
  /** As it is asked for from now on. */
  readonly index: Space['index'];
  /** `rebuilt` and `swapped` while searches went on; `later`: it is built once the first pass over the data is done. */
  readonly outcome: 'rebuilt' | 'swapped' | 'built' | 'dropped' | 'already' | 'later';
  /** What was logged, oldest first. */
  readonly runs: MaintenanceRun[];
}

const LIMITS = { vector: 2000, halfvec: 4000 } as const;
const RECALL = { sample: 50, budgetMs: 30_000 } as const;

/**
 * Builds the live index of a source again, or puts one with other parameters in its place, while searches go on. What
 * is asked for is recorded first, so that a maintainer goes on after a kill.
 * Throws FreshvecError `source_unknown`, `reindex_request_invalid`, `maintenance_busy`.
 */
export async function reindexSource(
  db: Database,
  name: string,
  request: ReindexRequest,
  options: ReindexSourceOptions,
): Promise<ReindexReport> {
  const source = await getSource(db, name);
  const live = await liveSpace(db, source.id);
  if (!live) throw invalid(`No space of "${name}" is live yet.`);
  const index = wanted(live.space, request);
  const since = await readClock(db);
  let outcome: ReindexReport['outcome'] | undefined;
  await asOnlyHeavy(db, async (lost) => {
    if (!isSame(index, live.space.index)) await setSpaceIndex(db, live.space.id, index);
    const space = (await getSpace(db, live.space.id)) ?? live.space;
    const target = { source, space, relations: await vectorRelations(db, source, space) };
    const held = { ...options, signal: either(lost, options.signal) };
    outcome = await act(
      db,
      target,
      Object.values(request).every((value) => value === undefined),
      held,
    );
  });
  if (!outcome) return refuseBusy(db);
  const runs = await listRuns(db, { limit: 100, since });
  return { source: name, index, outcome, runs: runs.reverse() };
}

async function act(
  db: Database,
  target: Target,
  again: boolean,
  options: ReindexSourceOptions,
): Promise<ReindexReport['outcome']> {
  const { source, space, relations } = target;
  const own = [...(await ownIndexes(db, source, space, relations)).values()];
  if (space.index.kind === 'none') {
    if (again)
      throw invalid(`"${source.name}" has no index, and is searched exactly: say --index hnsw to have one built.`);
    if (own.length === 0) return 'already';
    await tend(db, target, 'dropping the index', options, async () => {
      await converge(db, target, options);
      return `dropped ${own.map(({ name }) => name).join(', ')}: searches are exact`;
    });
    return 'dropped';
  }
  if (!(await isTended(db, space))) return 'later';
  const valid = await validIndexes(db, target);
  const asWanted = own.length > 0 && own.every((index) => index.valid && asAsked(index, space));
  if (again && valid.length > 0 && asWanted) {
    for (const index of valid) {
      if (!(await rebuildLogged(db, target, index, 'a person asked for it', { ...options, byPerson: true })))
        await refuse(db);
    }
    return 'rebuilt';
  }
  if (asWanted) return 'already';
  const { m, efConstruction } = space.index;
  const words = `m ${m}, ef_construction ${efConstruction}`;
  await tend(db, target, `building the index with ${words}`, options, async () => {
    await converge(db, target, options);
    if ((await validIndexes(db, target)).length === 0) throw await strangersIndex(db, target);
    return `${valid.length > 0 ? 'swapped the index for one' : 'built the index'} with ${words}`;
  });
  return valid.length > 0 ? 'swapped' : 'built';
}

/** One logged piece of work, alone on the table, measured before and after. */
async function tend(
  db: Database,
  target: Target,
  did: string,
  options: ReindexSourceOptions,
  work: () => Promise<string>,
): Promise<void> {
  const { source, space, relations } = target;
  const relation = relations.find(({ parent }) => parent === null);
  const bytes = async () => (await validIndexes(db, target)).reduce((sum, index) => sum + index.bytes, 0);
  const about = { service: 'reindex', byPerson: true, source: source.name, index: relation?.index, did };
  const done = await logged(db, { ...about, relation: relation && `${relation.schema}.${relation.name}` }, (notes) =>
    aloneOnTable(db, target, async () => {
      notes.bytesBefore = await bytes();
      if (notes.bytesBefore > 0) Object.assign(notes, { recallBefore: await recallOf(db, target, options) });
      notes.did = await work();
      notes.bytesAfter = await bytes();
      if (space.index.kind !== 'none') Object.assign(notes, { recallAfter: await recallOf(db, target, options) });
    }),
  );
  if (!done) await refuse(db);
}

async function recallOf(db: Database, { source, space }: Target, { signal }: ReindexSourceOptions) {
  try {
    return (await measureRecall(db, source, space, { ...RECALL, signal })).recall;
  } catch (error) {
    if (isUnmeasurable(error)) return undefined;
    throw error;
  }
}

/** Why the last run was not done. */
async function refuse(db: Database): Promise<never> {
  const [run] = await listRuns(db, { limit: 1 });
  throw new BusyError(run?.error ?? 'Another process tends this table.');
}

function wanted(space: Space, { index, m, efConstruction }: ReindexRequest): Space['index'] {
  const kind = index ?? (m === undefined && efConstruction === undefined ? space.index.kind : 'hnsw');
  if (kind === 'none') {
    if (m !== undefined || efConstruction !== undefined)
      throw invalid('Without an index there is no m and no ef_construction.');
    return { ...space.index, kind };
  }
  const parameters = { m: m ?? space.index.m, efConstruction: efConstruction ?? space.index.efConstruction };
  if (!(Number.isInteger(parameters.m) && parameters.m >= 2 && parameters.m <= 100)) {
    throw invalid(`m must be a whole number from 2 to 100, not ${parameters.m}.`);
  }
  const { efConstruction: ef } = parameters;
  if (!(Number.isInteger(ef) && ef >= 4 && ef <= 1000 && ef >= 2 * parameters.m)) {
    throw invalid(
      `ef_construction must be a whole number from 4 to 1000 and at least 2 × m (${2 * parameters.m}), not ${ef}.`,
    );
  }
  if (space.dimensions > LIMITS[space.type]) {
    throw invalid(
      `An index over ${space.type} takes at most ${LIMITS[space.type]} dimensions; these vectors have ${space.dimensions}.`,
    );
  }
  return { kind, ...parameters };
}

/** An equal index of somebody else's serves, so that none of ours is built beside it. */
async function strangersIndex(db: Database, { source, relations }: Target): Promise<FreshvecError> {
  const rows = await db.query<{ name: string }>(
    `SELECT i.indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
     WHERE am.amname = 'hnsw' AND i.indrelid::int8 = ANY($1::int8[]) ORDER BY 1`,
    [relations.map(({ oid }) => oid)],
  );
  return new FreshvecError(
    'index_foreign',
    `Searches of "${source.name}" are answered by ${rows.map(({ name }) => name).join(', ')}, which freshvec did not make and ` +
      'does not touch. Drop it with DROP INDEX CONCURRENTLY, and say this again.',
  );
}

function isSame(a: Space['index'], b: Space['index']): boolean {
  return a.kind === b.kind && a.m === b.m && a.efConstruction === b.efConstruction;
}

function invalid(message: string): FreshvecError {
  return new FreshvecError('reindex_request_invalid', message);
}
