import type { Executor } from '../db/database.js';

/** Who had work rest: a person, the spend cap, or a provider that a person must see to. */
export type PauseKind = 'person' | 'spend' | 'provider';

export interface Pause {
  readonly kind: PauseKind;
  /** For people; never holds content or secrets. */
  readonly reason: string;
  /** ISO 8601; null until somebody resumes it. */
  readonly until: string | null;
}

/** A source with all its spaces, or one space of it, so that a migration can rest while live edits go on. */
export interface PauseTarget {
  readonly sourceId: number;
  readonly spaceId?: number | undefined;
}

/** Has nobody work on it; its changes go on being noticed. A pause of the same kind is replaced. */
export async function pauseWork(
  db: Executor,
  { sourceId, spaceId }: PauseTarget,
  { kind, reason, seconds }: { kind: PauseKind; reason: string; seconds?: number | undefined },
): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.pause (source_id, space_id, kind, reason, until)
     VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5::float8))
     ON CONFLICT (source_id, space_id, kind) DO UPDATE SET reason = excluded.reason, until = excluded.until, at = now()`,
    [sourceId, spaceId ?? null, kind, reason, seconds ?? null],
  );
}

/**
 * Ends pauses of every kind: of a source, and with it of each of its spaces, or of one space. Resolves to whether there
 * was one.
 */
export async function resumeWork(db: Executor, { sourceId, spaceId }: PauseTarget): Promise<boolean> {
  const rows = await db.query<{ running: boolean }>(
    `DELETE FROM freshvec.pause WHERE source_id = $1 AND ($2::int IS NULL OR space_id = $2)
     RETURNING until IS NULL OR until > clock_timestamp() AS running`,
    [sourceId, spaceId ?? null],
  );
  return rows.some(({ running }) => running);
}

/** Of the pauses of a source, and those of the space where one is named, the one that lasts longest. */
export async function pauseOf(db: Executor, { sourceId, spaceId }: PauseTarget): Promise<Pause | undefined> {
  const [row] = await db.query<{ kind: PauseKind; reason: string; until: Date | null }>(
    `SELECT kind, reason, until FROM freshvec.pause
     WHERE source_id = $1 AND (space_id IS NULL OR space_id = $2) AND (until IS NULL OR until > clock_timestamp())
     ORDER BY until DESC NULLS FIRST LIMIT 1`,
    [sourceId, spaceId ?? null],
  );
  return row && { kind: row.kind, reason: row.reason, until: row.until?.toISOString() ?? null };
}

/** SQL: neither the space of this alias nor its source is paused. */
export function notPausedSql(space: string): string {
  return `NOT EXISTS (SELECT FROM freshvec.pause z WHERE z.source_id = ${space}.source_id
    AND (z.space_id IS NULL OR z.space_id = ${space}.id) AND (z.until IS NULL OR z.until > clock_timestamp()))`;
}
