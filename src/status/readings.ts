import { readToday } from '../budget/spend-report.js';
import { hasEnded, latestMigration } from '../catalog/migration.js';
import { listSources, type Source } from '../catalog/source.js';
import { listMaintainedSpaces, liveSpace } from '../catalog/space.js';
import { LANES, type Lane } from '../claim/lease.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError } from '../db/errors.js';
import { readOnly } from '../db/snapshot.js';
import type { BacklogLane, Readings, SourceReading } from '../observe/readings.js';
import { plannedChanges, readPending } from './pending.js';
import { sourceStatus } from './status.js';

export interface ReadingsOptions {
  /** Limit of each statement, in ms. */
  readonly statementMs: number;
  /** Once so many ms have gone by, no further source is begun. */
  readonly budgetMs: number;
  /** Told why a source could not be read or counted, or the money; the others are. */
  readonly onError: (error: unknown) => void;
}

/**
 * Reads every source for whoever watches over them. First what freshvec's own tables tell, which is cheap; then the rows
 * are counted as far as the time goes, so that one large source hides nothing but its own counts.
 */
export async function readSources(db: Database, options: ReadingsOptions): Promise<Readings> {
  const { statementMs, budgetMs, onError } = options;
  const deadline = performance.now() + budgetMs;
  const leftMs = () => Math.min(statementMs, deadline - performance.now());
  const sources: SourceReading[] = [];
  const unreadable: string[] = [];
  const begun: SourceReading[] = [];
  for (const source of await listSources(readOnly(db, statementMs))) {
    await attempt(source.name, async () => {
      const ms = leftMs();
      if (ms <= 0) return false;
      begun.push(await readRecord(readOnly(db, ms), source));
      return true;
    });
  }
  for (const reading of begun) {
    await attempt(reading.source, async () => {
      const counted = await count(db, reading.source, leftMs(), onError);
      if (counted === 'gone') return false;
      sources.push({ ...reading, ...counted });
      return true;
    });
  }
  const spend = await readOnly(db, statementMs).tx(readToday).catch(onError);
  return { sources, unreadable, spend: spend ?? undefined };

  async function attempt(name: string, read: () => Promise<boolean>): Promise<void> {
    try {
      if (!(await read())) unreadable.push(name);
    } catch (error) {
      if (error instanceof FreshvecError && error.code === 'source_unknown') return; // Removed just now.
      onError(error);
      unreadable.push(name);
    }
  }
}

/** What is on record of a source, not counted yet: the oldest stale row is then the oldest that is pending. */
async function readRecord(view: Database, source: Source): Promise<SourceReading> {
  return view.tx(async (tx) => {
    const live = await liveSpace(tx, source.id);
    const migration = await latestMigration(tx, source.id);
    const spaceIds = (await listMaintainedSpaces(tx, source.id)).map(({ id }) => id);
    return {
      source: source.name,
      counts: undefined,
      oldestStaleSeconds: (live && (await readPending(tx, live.space)).oldestSeconds) ?? 0,
      backlog: await readBacklog(tx, spaceIds),
      failures: await failuresByCode(tx, source.id),
      migration: migration && !hasEnded(migration) ? { state: migration.state, paused: migration.paused } : undefined,
    };
  });
}

type Counted = Pick<SourceReading, 'counts' | 'oldestStaleSeconds'>;

/** Undefined where there is no time for it; `gone` where what the source stands on is. */
async function count(
  db: Database,
  source: string,
  ms: number,
  onError: (error: unknown) => void,
): Promise<Counted | undefined | 'gone'> {
  if (ms <= 0) return undefined;
  try {
    const [status] = (await sourceStatus(readOnly(db, ms), { source, limited: true })).sources;
    // A row whose content fails has the others estimated: the source is there.
    if (status === undefined || (status.problem !== undefined && !status.estimated)) return 'gone';
    const { fresh, stale, failed, leased, coverage, oldestStaleSeconds } = status;
    return { counts: { rows: { fresh, stale, failed, leased }, coverage }, oldestStaleSeconds };
  } catch (error) {
    if (classify(error) !== 'lock_timeout') throw error; // Also the code of a statement that took too long.
    onError(error);
    return undefined;
  }
}

/** Changes are counted exactly up to so many a lane, then estimated: tens of milliseconds. */
const COUNT_LIMIT = 100_000;

async function readBacklog(tx: Executor, spaceIds: readonly number[]): Promise<Record<BacklogLane, number>> {
  const [row] = await tx.query<Record<BacklogLane, number>>(
    `SELECT
       (SELECT count(*) FROM (
          SELECT FROM freshvec.change WHERE space_id = ANY($1::int[]) AND lane = ${LANES.interactive} LIMIT ${COUNT_LIMIT}) c) AS interactive,
       (SELECT count(*) FROM (
          SELECT FROM freshvec.change_key WHERE space_id = ANY($1::int[]) AND lane = ${LANES.bulk} LIMIT ${COUNT_LIMIT}) c) AS bulk,
       (SELECT count(*) FROM freshvec.lease WHERE space_id = ANY($1::int[]) AND token IS NULL) AS waiting,
       (SELECT count(*) FROM freshvec.range WHERE space_id = ANY($1::int[])) AS ranges`,
    [spaceIds],
  );
  const { interactive = 0, bulk = 0, waiting = 0, ranges = 0 } = row ?? {};
  return {
    interactive: await orPlanned(tx, interactive, spaceIds, LANES.interactive),
    bulk: await orPlanned(tx, bulk, spaceIds, LANES.bulk),
    waiting,
    ranges,
  };
}

async function orPlanned(tx: Executor, counted: number, spaceIds: readonly number[], lane: Lane): Promise<number> {
  if (counted < COUNT_LIMIT) return counted;
  return Math.max(counted, await plannedChanges(tx, spaceIds, lane));
}

/** What `failures list` shows, counted. */
async function failuresByCode(tx: Executor, sourceId: number): Promise<Map<string, number>> {
  const rows = await tx.query<{ code: string; count: number }>(
    `SELECT f.code, count(*) AS count FROM freshvec.failure f JOIN freshvec.space p ON p.id = f.space_id
     WHERE p.source_id = $1 AND NOT f.discarded GROUP BY f.code`,
    [sourceId],
  );
  return new Map(rows.map(({ code, count }) => [code, count]));
}
