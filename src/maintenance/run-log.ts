import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { describeError } from '../observe/log.js';

export type RunOutcome = 'running' | 'done' | 'busy' | 'failed' | 'interrupted';

/** What a run is about, known when it begins. */
export interface RunAbout {
  readonly service: string;
  readonly byPerson: boolean;
  readonly source?: string | undefined;
  /** `schema.table`, not quoted. */
  readonly relation?: string | undefined;
  readonly index?: string | undefined;
  /** What is begun, and why; replaced by what came of it. */
  readonly did: string;
}

/** Filled in while it runs. */
export interface RunNotes {
  did?: string;
  bytesBefore?: number;
  bytesAfter?: number;
  /** 0 to 1. */
  recallBefore?: number;
  recallAfter?: number;
}

/** One line of the log. */
export interface MaintenanceRun {
  readonly id: number;
  readonly service: string;
  readonly byPerson: boolean;
  readonly source: string | null;
  readonly relation: string | null;
  readonly index: string | null;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  readonly outcome: RunOutcome;
  readonly did: string;
  readonly bytesBefore: number | null;
  readonly bytesAfter: number | null;
  readonly recallBefore: number | null;
  readonly recallAfter: number | null;
  readonly error: string | null;
  /** Runs in a row that came to the same. */
  readonly times: number;
}

/** Lines that are kept of each service. */
const KEPT = 200;

/** Somebody else holds what a run needs; it is left for the next time. */
export class BusyError extends FreshvecError {
  override readonly name = 'BusyError';
  constructor(message: string) {
    super('maintenance_busy', message);
  }
}

/**
 * Runs `fn` and logs it from its beginning, so that one whose process dies is seen. A BusyError is an outcome and goes
 * no further; any other error is logged and thrown. Resolves to whether it was done.
 */
export async function logged(db: Database, about: RunAbout, fn: (notes: RunNotes) => Promise<void>): Promise<boolean> {
  const [row] = await db.query<{ id: number }>(
    `INSERT INTO freshvec.maintenance_run (service, by_person, source, relation, index_name, did)
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
    [about.service, about.byPerson, about.source, about.relation, about.index, about.did].map((value) => value ?? null),
  );
  const id = row?.id ?? 0;
  const notes: RunNotes = {};
  try {
    await fn(notes);
    await finish(db, id, 'done', notes);
    return true;
  } catch (error) {
    const outcome = error instanceof BusyError ? 'busy' : isAbort(error) ? 'interrupted' : 'failed';
    await finish(db, id, outcome, notes, describeError(error).message).catch(() => {});
    if (outcome !== 'busy') throw error;
    return false;
  } finally {
    await forget(db, about.service).catch(() => {});
  }
}

/** Told to stop, or another process took over. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

/** Logs what is over already; equal to the service's last line it is counted there. */
export async function logAfterwards(db: Executor, about: RunAbout, outcome: RunOutcome, error?: string): Promise<void> {
  const same = await db.query(
    `UPDATE freshvec.maintenance_run SET times = times + 1, ended_at = clock_timestamp()
     WHERE id = (SELECT max(id) FROM freshvec.maintenance_run WHERE service = $1)
       AND by_person = $2 AND source IS NOT DISTINCT FROM $3 AND did = $4 AND outcome = $5 AND error IS NOT DISTINCT FROM $6
     RETURNING 1`,
    [about.service, about.byPerson, about.source ?? null, about.did, outcome, error ?? null],
  );
  if (same.length > 0) return;
  await db.query(
    `INSERT INTO freshvec.maintenance_run (service, by_person, source, did, outcome, error, relation, index_name, ended_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())`,
    [about.service, about.byPerson, about.source, about.did, outcome, error, about.relation, about.index].map(
      (value) => value ?? null,
    ),
  );
  await forget(db, about.service);
}

/** The database's clock, for `since` of `listRuns`. */
export async function readClock(db: Executor): Promise<string> {
  const [row] = await db.query<{ now: string }>(`SELECT to_json(clock_timestamp())#>>'{}' AS now`);
  return row?.now ?? '';
}

/** Newest first. `since`: those that began then or later, or that came to the same as one before and are counted there. */
export async function listRuns(
  db: Executor,
  { limit, since }: { readonly limit: number; readonly since?: string },
): Promise<MaintenanceRun[]> {
  return db.query<{ [K in keyof MaintenanceRun]: MaintenanceRun[K] }>(
    `SELECT id, service, by_person AS "byPerson", source, relation, index_name AS index, started_at AS "startedAt",
       ended_at AS "endedAt", outcome, did, bytes_before AS "bytesBefore", bytes_after AS "bytesAfter",
       recall_before AS "recallBefore", recall_after AS "recallAfter", error, times
     FROM freshvec.maintenance_run
     WHERE $1::timestamptz IS NULL OR started_at >= $1 OR (times > 1 AND ended_at >= $1) ORDER BY id DESC LIMIT $2`,
    [since ?? null, limit],
  );
}

/** Ends the lines of processes that died; for whoever is the only one that runs these services. */
export async function endInterrupted(db: Executor, services: readonly string[]): Promise<void> {
  await db.query(
    `UPDATE freshvec.maintenance_run SET outcome = 'interrupted', ended_at = clock_timestamp()
     WHERE outcome = 'running' AND service = ANY($1::text[])`,
    [services],
  );
}

async function finish(db: Executor, id: number, outcome: RunOutcome, notes: RunNotes, error?: string): Promise<void> {
  await db.query(
    `UPDATE freshvec.maintenance_run SET ended_at = clock_timestamp(), outcome = $2, did = COALESCE($3, did),
       bytes_before = $4, bytes_after = $5, recall_before = $6, recall_after = $7, error = $8
     WHERE id = $1 AND outcome = 'running'`,
    [
      id,
      outcome,
      notes.did ?? null,
      notes.bytesBefore ?? null,
      notes.bytesAfter ?? null,
      notes.recallBefore ?? null,
      notes.recallAfter ?? null,
      error ?? null,
    ],
  );
}

async function forget(db: Executor, service: string): Promise<void> {
  await db.query(
    `DELETE FROM freshvec.maintenance_run WHERE service = $1 AND outcome <> 'running' AND id <= (
       SELECT id FROM freshvec.maintenance_run WHERE service = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)`,
    [service, KEPT],
  );
}
