import { fromSource } from '../catalog/expressions.js';
import { hasEnded, latestMigration, type MigrationState } from '../catalog/migration.js';
import { type Pause, pauseOf } from '../catalog/pause.js';
import { getSource, listSources, type Source } from '../catalog/source.js';
import { listMaintainedSpaces, liveSpace, type Space, type SpaceState, type StoreKind } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { classify, sqlState } from '../db/errors.js';
import { takeTime } from '../db/timeouts.js';
import { isSmall } from '../source/estimate.js';
import { openStore } from '../store/index.js';
import type { StoreCount } from '../store/port.js';
import type { VectorCodec } from '../store/vector-codec.js';
import { openCodec } from './codec.js';
import { countLongTexts, type LongTextCount } from './long-texts.js';
import { type Pending, plannedRows, readPending } from './pending.js';
import { type ProviderStatus, restingProviders } from './providers.js';

/** How fresh one source is. fresh + stale + failed = rows; `leased` is part of `stale`. */
export interface SourceStatus {
  readonly source: string;
  /** Eligible rows: they pass the filter and their text is not blank. */
  readonly rows: number;
  readonly fresh: number;
  readonly stale: number;
  readonly leased: number;
  readonly failed: number;
  /** fresh / rows, 0 to 1; 1 where there are no rows. */
  readonly coverage: number;
  /** 0 where nothing is stale; null where what is stale was never recorded (a sweep will find it). */
  readonly oldestStaleSeconds: number | null;
  readonly live: {
    readonly fingerprint: string;
    readonly epoch: number;
    readonly dimensions: number;
    readonly store: StoreKind;
  } | null;
  readonly spaces: readonly SpaceStatus[];
  /** Where it is on its way to another space; absent while it is not. `freshvec reembed status` says more. */
  readonly migration?: {
    readonly id: number;
    readonly state: MigrationState;
    readonly paused: boolean;
    readonly to: string;
  };
  /** Rows whose vector was made of a part, or of pieces, of a text that is too long for the model; absent where none was. */
  readonly longTexts?: LongTextCount;
  /** Nobody works on it, or on its live space, and why; absent while somebody does. What is stale stays so. */
  readonly paused?: Pause;
  /** True where the numbers are estimates. */
  readonly estimated?: true;
  /**
   * Why this source could not be counted: a row's content cannot be had, and the numbers are estimates; or somebody
   * dropped or renamed what it stands on, and every number is 0.
   */
  readonly problem?: string;
}

export interface SpaceStatus {
  readonly id: number;
  readonly fingerprint: string;
  readonly state: SpaceState;
  readonly vectors: number;
  /** Nobody works on this space, and why; absent while somebody does. */
  readonly paused?: Pause;
}

export interface StatusOptions {
  /** One source; all of them without. */
  readonly source?: string | undefined;
  /** Counts by hash, however large the source is: reads all of it. */
  readonly exact?: boolean | undefined;
  /** Counting keeps to the time limits that `db` has; else it takes its time, whatever the role allows. */
  readonly limited?: boolean | undefined;
}

/** Below so many rows a source is counted exactly without being asked to. */
const EXACT_BELOW_ROWS = 100_000;

export interface Status {
  readonly sources: SourceStatus[];
  /** Providers that are left alone for now; empty while all work. */
  readonly providers: ProviderStatus[];
}

export async function sourceStatus(db: Database, options: StatusOptions = {}): Promise<Status> {
  const providers = await restingProviders(db);
  const sources = options.source === undefined ? await listSources(db) : [await getSource(db, options.source)];
  const result: SourceStatus[] = [];
  if (sources.length === 0) return { sources: result, providers };
  const codec = await openCodec(db);
  for (const source of sources) {
    const count = (how: Counting) =>
      db.tx(async (tx) => {
        if (!options.limited) await takeTime(tx);
        return statusOf(tx, source, codec, how);
      });
    const status = await count(options.exact ? 'exact' : 'exact_if_small')
      .catch(uncountable(source, () => count('estimate')))
      .catch(brokenStatus(source));
    result.push(await withPauses(db, source, status));
  }
  return { sources: result, providers };
}

async function withPauses(db: Database, { id: sourceId }: Source, status: SourceStatus): Promise<SourceStatus> {
  const spaces: SpaceStatus[] = [];
  for (const space of status.spaces) {
    const paused = await pauseOf(db, { sourceId, spaceId: space.id });
    spaces.push(paused ? { ...space, paused } : space);
  }
  const live = spaces.find(({ state }) => state === 'live');
  const paused = live ? live.paused : await pauseOf(db, { sourceId });
  const migration = await migrationOf(db, sourceId);
  return { ...status, spaces, ...(migration && { migration }), ...(paused && { paused }) };
}

async function migrationOf(db: Executor, sourceId: number): Promise<SourceStatus['migration']> {
  const migration = await latestMigration(db, sourceId);
  if (!migration || hasEnded(migration)) return undefined;
  const { id, state, paused, target } = migration;
  return { id, state, paused, to: target.fingerprint };
}

/** How rows are counted; `exact` hashes the text of each. */
type Counting = 'exact' | 'exact_if_small' | 'estimate';

/** One row whose content cannot be had keeps nobody from an estimate. */
function uncountable(source: Source, estimate: () => Promise<SourceStatus>): (error: unknown) => Promise<SourceStatus> {
  return async (error) => {
    if (classify(error) !== 'data') throw error;
    // PostgreSQL's own message is left out: it quotes the content.
    const problem =
      `The content expression or the filter fails on a row (SQLSTATE ${sqlState(error)}), so these are estimates: ` +
      `see \`freshvec failures list ${source.name}\`.`;
    return { ...(await estimate()), problem };
  };
}

/** One source whose table or column is gone must not hide how the others are. */
function brokenStatus(source: Source): (error: unknown) => SourceStatus {
  return (error) => {
    const state = sqlState(error);
    if (state !== '42P01' && state !== '42703') throw error;
    const alter =
      state === '42703' ? ` give freshvec its new name (\`freshvec source alter ${source.name} --content …\`),` : '';
    return {
      ...{ source: source.name, rows: 0, fresh: 0, stale: 0, leased: 0, failed: 0, coverage: 0 },
      ...{ oldestStaleSeconds: null, live: null, spaces: [] },
      problem: `${error instanceof Error ? error.message : String(error)}: rename it back,${alter} or run \`freshvec source remove ${source.name}\`.`,
    };
  };
}

async function statusOf(tx: Executor, source: Source, codec: VectorCodec, counting: Counting): Promise<SourceStatus> {
  const live = await liveSpace(tx, source.id);
  const spaces = await listMaintainedSpaces(tx, source.id);
  const about = await aboutRows(tx, source);
  const estimated =
    counting === 'estimate' ||
    (counting !== 'exact' &&
      about >= EXACT_BELOW_ROWS &&
      !((await isUncounted(tx, source)) && (await isSmall(tx, source))));
  const counts = new Map<number, StoreCount>();
  for (const space of spaces) {
    counts.set(
      space.id,
      estimated ? estimate(about, await readPending(tx, space)) : await openStore(source, space, codec).count(tx),
    );
  }
  const count = (live && counts.get(live.space.id)) ?? { rows: 0, fresh: 0, failed: 0, vectors: 0 };
  const pending = live && (await readPending(tx, live.space));
  const long = live && (await countLongTexts(tx, live.space.id));
  const stale = Math.max(0, count.rows - count.fresh - count.failed);
  return {
    source: source.name,
    rows: count.rows,
    fresh: count.fresh,
    stale,
    leased: Math.min(pending?.leased ?? 0, stale),
    failed: count.failed,
    coverage: count.rows === 0 ? 1 : count.fresh / count.rows,
    oldestStaleSeconds: stale === 0 ? 0 : (pending?.oldestSeconds ?? null),
    live: live ? describeLive(live.epoch, live.space) : null,
    spaces: spaces.map(({ id, fingerprint, state }) => ({
      id,
      fingerprint,
      state,
      vectors: counts.get(id)?.vectors ?? 0,
    })),
    ...(long && long.truncated + long.chunked > 0 ? { longTexts: long } : {}),
    ...(estimated ? { estimated } : {}),
  };
}

function describeLive(epoch: number, space: Space): SourceStatus['live'] {
  return { fingerprint: space.fingerprint, epoch, dimensions: space.dimensions, store: space.store };
}

/** Whatever is not pending is taken to be fresh: the sweep compares hashes and enqueues what is not. */
function estimate(about: number, { keys, unvisited, failures }: Pending): StoreCount {
  const failed = Math.min(failures, about);
  const stale = Math.min(keys + unvisited, about - failed);
  const fresh = about - failed - stale;
  return { rows: about, fresh, failed, vectors: fresh };
}

/**
 * Statistics have never seen rows in a part of the table: the planner then takes them for as narrow as their types can
 * be, and wide rows count many times over.
 */
async function isUncounted(tx: Executor, { relation }: Source): Promise<boolean> {
  const rows = await tx.query(
    `SELECT 1 FROM pg_class c WHERE c.relkind = 'r' AND (c.reltuples < 0 OR c.relpages = 0) AND pg_relation_size(c.oid) > 0
       AND (c.oid = $1::oid OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))) LIMIT 1`,
    [relation.oid],
  );
  return rows.length > 0;
}

/** Rows that pass the filter, as the planner sees it. */
async function aboutRows(tx: Executor, source: Source): Promise<number> {
  const filter = source.filter === undefined ? '' : ` WHERE (${source.filter})`;
  return plannedRows(tx, `SELECT FROM ${fromSource(source)}${filter}`);
}
