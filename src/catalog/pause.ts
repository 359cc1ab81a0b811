import type { Executor } from '../db/database.js';

/** Who had a source rest: a person, the spend cap, or a provider that a person must see to. */
export type PauseKind = 'person' | 'spend' | 'provider';

export interface Pause {
  readonly kind: PauseKind;
  /** For people; never holds content or secrets. */
  readonly reason: string;
  /** ISO 8601; null until somebody resumes it. */
  readonly until: string | null;
}

/** Has nobody work on the source; its changes go on being noticed. A pause of the same kind is replaced. */
export async function pauseSource(
  db: Executor,
  sourceId: number,
  { kind, reason, seconds }: { kind: PauseKind; reason: string; seconds?: number | undefined },
): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.pause (source_id, kind, reason, until)
     VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4::float8))
     ON CONFLICT (source_id, kind) DO UPDATE SET reason = excluded.reason, until = excluded.until, at = now()`,
    [sourceId, kind, reason, seconds ?? null],
  );
}

/** Ends pauses of every kind. Resolves to whether there was one. */
export async function resumeSource(db: Executor, sourceId: number): Promise<boolean> {
  const rows = await db.query<{ running: boolean }>(
    'DELETE FROM freshvec.pause WHERE source_id = $1 RETURNING until IS NULL OR until > clock_timestamp() AS running',
    [sourceId],
  );
  return rows.some(({ running }) => running);
}

/** The pause that lasts longest; undefined while the source is worked on. */
export async function pauseOf(db: Executor, sourceId: number): Promise<Pause | undefined> {
  const [row] = await db.query<{ kind: PauseKind; reason: string; until: Date | null }>(
    `SELECT kind, reason, until FROM freshvec.pause
     WHERE source_id = $1 AND (until IS NULL OR until > clock_timestamp()) ORDER BY until DESC NULLS FIRST LIMIT 1`,
    [sourceId],
  );
  return row && { kind: row.kind, reason: row.reason, until: row.until?.toISOString() ?? null };
}

/** SQL: the source whose id stands in `column` is not paused. */
export function notPausedSql(column: string): string {
  return `NOT EXISTS (SELECT FROM freshvec.pause z
    WHERE z.source_id = ${column} AND (z.until IS NULL OR z.until > clock_timestamp()))`;
}
