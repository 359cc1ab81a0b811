import type { Executor } from '../db/database.js';

/** What the rows of one space have cost since it was made, and may cost: a migration's money is its target space's. */
export interface SpaceSpend {
  /** Millionths of a dollar, requests under way included. */
  readonly micros: number;
  /** Undefined: no cap but the day's. */
  readonly capMicros: number | undefined;
}

/**
 * Sets what the rows of a space may cost in all, in millionths of a dollar; undefined takes the cap away. Where there is
 * money now, a pause of the space for want of it ends.
 */
export async function setSpaceCap(db: Executor, spaceId: number, capMicros: number | undefined): Promise<void> {
  await db.query(
    `WITH cap AS (
       INSERT INTO freshvec.space_spend AS s (space_id, cap_micros) VALUES ($1, $2)
       ON CONFLICT (space_id) DO UPDATE SET cap_micros = excluded.cap_micros
       RETURNING s.cap_micros IS NULL OR s.micros < s.cap_micros AS has_money
     )
     DELETE FROM freshvec.pause p USING cap WHERE p.space_id = $1 AND p.kind = 'spend' AND cap.has_money`,
    [spaceId, capMicros ?? null],
  );
}

export async function readSpaceSpend(db: Executor, spaceId: number): Promise<SpaceSpend> {
  const [row] = await db.query<{ micros: number; cap: number | null }>(
    'SELECT micros, cap_micros AS cap FROM freshvec.space_spend WHERE space_id = $1',
    [spaceId],
  );
  return { micros: row?.micros ?? 0, capMicros: row?.cap ?? undefined };
}
