import type { Executor } from '../db/database.js';
import { NANOS_PER_DOLLAR } from './spend.js';

/** What the rows of one space have cost since it was made, and may cost: a migration's money is its target space's. */
export interface SpaceSpend {
  readonly usd: number;
  /** Undefined: no cap but the day's. */
  readonly capUsd: number | undefined;
}

/**
 * Sets what the rows of a space may cost in all, in dollars; undefined takes the cap away. Where there is money now, a
 * pause of the space for want of it ends.
 */
export async function setSpaceCap(db: Executor, spaceId: number, capUsd: number | undefined): Promise<void> {
  await db.query(
    `WITH cap AS (
       INSERT INTO freshvec.space_spend AS s (space_id, cap_nanos) VALUES ($1, $2)
       ON CONFLICT (space_id) DO UPDATE SET cap_nanos = excluded.cap_nanos
       RETURNING s.cap_nanos IS NULL OR s.nanos < s.cap_nanos AS has_money
     )
     DELETE FROM freshvec.pause p USING cap WHERE p.space_id = $1 AND p.kind = 'spend' AND cap.has_money`,
    [spaceId, capUsd === undefined ? null : Math.round(capUsd * NANOS_PER_DOLLAR)],
  );
}

export async function readSpaceSpend(db: Executor, spaceId: number): Promise<SpaceSpend> {
  const [row] = await db.query<{ usd: number; cap: number | null }>(
    `SELECT nanos / 1e9::float8 AS usd, cap_nanos / 1e9::float8 AS cap FROM freshvec.space_spend WHERE space_id = $1`,
    [spaceId],
  );
  return { usd: row?.usd ?? 0, capUsd: row?.cap ?? undefined };
}
