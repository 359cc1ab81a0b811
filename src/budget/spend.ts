import type { Executor } from '../db/database.js';

/** What a text was embedded for: a source's rows, a search, a look whether a model works, or a text by itself. */
export type SpendPurpose = 'rows' | 'query' | 'probe' | 'text';

/** Who is charged for a request. */
export interface ChargedTo {
  /** Name of the source; undefined where there is none. */
  readonly source: string | undefined;
  /** The space whose money it is, and whose cap counts; undefined for a query. */
  readonly spaceId?: number | undefined;
  readonly purpose: SpendPurpose;
}

/** What requests were charged for, as `freshvec.record_spend` takes it. */
export interface Spent {
  /** The ten minutes since 1970 in which it was granted, by whose day it is charged; null: now. */
  readonly period: number | null;
  readonly source: string | null;
  readonly space: number | null;
  readonly fingerprint: string;
  readonly purpose: SpendPurpose;
  readonly texts: number;
  readonly tokens: number;
  /** Billionths of a dollar. */
  readonly nanos: number;
  /** What had been reserved, and is given back. */
  readonly reserved: number;
}

/** Money is counted in billionths of a dollar, so that a query of a few tokens costs what it does. */
export const NANOS_PER_DOLLAR = 1e9;

/** Billionths of a dollar for so many tokens, of which a million cost `price` dollars; rounded up. */
export function nanosOf(tokens: number, price: number): number {
  return Math.ceil(tokens * price * 1000);
}

export async function recordSpend(db: Executor, spent: readonly Spent[]): Promise<void> {
  await db.query('SELECT freshvec.record_spend($1::jsonb)', [JSON.stringify(spent)]);
}

/** One source, model and purpose on one day. */
export interface SpendRow {
  /** UTC, `YYYY-MM-DD`. */
  readonly day: string;
  readonly source: string | null;
  /** Fingerprint. */
  readonly model: string;
  readonly purpose: SpendPurpose;
  readonly texts: number;
  readonly tokens: number;
  /** USD; 0 where the price is not known. */
  readonly usd: number;
}

/** The last `days` days, the newest first. */
export async function readSpend(db: Executor, days: number): Promise<SpendRow[]> {
  return db.query<SpendRow & Record<string, unknown>>(
    `SELECT to_char(day, 'YYYY-MM-DD') AS day, source, fingerprint AS model, purpose,
       sum(texts)::int8 AS texts, sum(tokens)::int8 AS tokens, sum(nanos) / 1e9::float8 AS usd
     FROM freshvec.spend s WHERE s.day > (clock_timestamp() AT TIME ZONE 'UTC')::date - $1::int
     GROUP BY s.day, source, fingerprint, purpose ORDER BY s.day DESC, source NULLS LAST, fingerprint, purpose`,
    [days],
  );
}
