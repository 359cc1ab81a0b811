import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { type PriceSettings, pricePerMillionTokens } from './prices.js';
import { NANOS_PER_DOLLAR, readSpend, type SpendPurpose } from './spend.js';

export interface SpendOptions {
  /** So many days up to today (UTC), 30 unless told. */
  readonly days?: number | undefined;
}

/** What one source was charged for one model and purpose on one day. */
export interface Spend {
  /** UTC, `YYYY-MM-DD`. */
  readonly day: string;
  /** Null where it was for no source. */
  readonly source: string | null;
  /** `provider/name@dimensions#hash` */
  readonly model: string;
  /** `rows` of the source, a `query` of a search, a `probe` of the model, or a `text` by itself (`freshvec embed`). */
  readonly purpose: SpendPurpose;
  readonly texts: number;
  readonly tokens: number;
  /** 0 where the model is free; null where its price was not known. */
  readonly usd: number | null;
}

export interface SpendReport {
  /** The newest day first. */
  readonly spend: readonly Spend[];
  /** `usd` is of what has a price; null where there is something and nothing of it has one. */
  readonly total: { readonly texts: number; readonly tokens: number; readonly usd: number | null };
  /** USD that a day may cost, and what today has cost so far; null without a cap. */
  readonly cap: { readonly perDay: number; readonly today: number } | null;
}

export interface SpendSettings extends PriceSettings {
  /** USD that a day (UTC) may cost. */
  readonly capPerDay?: number | undefined;
}

const DEFAULT_DAYS = 30;
/** A date must remain a date. */
const MOST_DAYS = 36_500;

/** What embedding has cost. Throws FreshvecError `spend_request_invalid`. */
export async function spendReport(
  db: Executor,
  { days = DEFAULT_DAYS }: SpendOptions,
  settings: SpendSettings,
): Promise<SpendReport> {
  if (!Number.isSafeInteger(days) || days < 1) {
    throw new FreshvecError('spend_request_invalid', `days must be a whole number from 1 on, not ${days}.`);
  }
  const rows = await readSpend(db, Math.min(days, MOST_DAYS));
  const spend = rows.map((row): Spend => ({ ...row, usd: hasPrice(row, settings) ? row.usd : null }));
  const { capPerDay: perDay } = settings;
  return { spend, total: totalOf(spend), cap: perDay === undefined ? null : { perDay, today: await spentToday(db) } };
}

/** Any price makes at least a billionth of a dollar: nothing was paid only for what is free or has no known price. */
function hasPrice({ model, tokens, usd }: { model: string; tokens: number; usd: number }, prices: PriceSettings) {
  if (usd > 0 || tokens === 0) return true;
  try {
    return pricePerMillionTokens(model.replace(/#.*$/, ''), prices) === 0;
  } catch {
    return false; // On record from another version, which knew the model.
  }
}

function totalOf(spend: readonly Spend[]): SpendReport['total'] {
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  const known = spend.flatMap(({ usd }) => usd ?? []);
  return {
    texts: sum(spend.map(({ texts }) => texts)),
    tokens: sum(spend.map(({ tokens }) => tokens)),
    usd: known.length === 0 && spend.length > 0 ? null : Math.round(sum(known) * NANOS_PER_DOLLAR) / NANOS_PER_DOLLAR,
  };
}

/** Today (UTC): what each source was charged for each model, and the number that the cap is held against, in USD. */
export async function readToday(
  db: Executor,
): Promise<{ readonly rows: { source: string | null; model: string; usd: number }[]; readonly usd: number }> {
  const rows = await readSpend(db, 1);
  return { rows: rows.map(({ source, model, usd }) => ({ source, model, usd })), usd: await spentToday(db) };
}

/** In USD; the cap is held against that and the upper bounds of requests under way. */
async function spentToday(db: Executor): Promise<number> {
  const [row] = await db.query<{ usd: number }>(
    `SELECT nanos / 1e9::float8 AS usd FROM freshvec.spend_day
     WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date`,
  );
  return row?.usd ?? 0;
}
