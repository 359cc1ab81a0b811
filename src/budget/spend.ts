import type { Executor } from '../db/database.js';

/** What one batch was charged for. */
export interface Charge {
  /** Name of the source. */
  readonly source: string;
  readonly fingerprint: string;
  readonly texts: number;
  readonly tokens: number;
  /** Millionths of a dollar. */
  readonly micros: number;
}

/** Millionths of a dollar: dollars for a million tokens are millionths of a dollar for one. */
export function microsOf(tokens: number, price: number): number {
  return Math.ceil(tokens * price);
}

export async function recordSpend(db: Executor, charge: Charge): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.spend AS s (day, source, fingerprint, texts, tokens, micros)
     VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, $1, $2, $3, $4, $5)
     ON CONFLICT (day, source, fingerprint) DO UPDATE
     SET texts = s.texts + excluded.texts, tokens = s.tokens + excluded.tokens, micros = s.micros + excluded.micros`,
    [charge.source, charge.fingerprint, charge.texts, charge.tokens, charge.micros],
  );
}

/** One source and model on one day. */
export interface SpendRow {
  /** UTC, `YYYY-MM-DD`. */
  readonly day: string;
  readonly source: string;
  /** Fingerprint. */
  readonly model: string;
  readonly texts: number;
  readonly tokens: number;
  /** USD; 0 where the price is not known. */
  readonly usd: number;
}

/** The last `days` days, the newest first. */
export async function readSpend(db: Executor, days: number): Promise<SpendRow[]> {
  return db.query<SpendRow & Record<string, unknown>>(
    `SELECT to_char(day, 'YYYY-MM-DD') AS day, source, fingerprint AS model, texts, tokens, micros / 1e6::float8 AS usd
     FROM freshvec.spend WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - $1::int
     ORDER BY spend.day DESC, source, fingerprint`,
    [days],
  );
}
