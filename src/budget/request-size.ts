import type { KnownLimits } from './account.js';

/**
 * Part of the limit that one request takes at most, in s of it, unless the limit of requests is the tighter one. Less than
 * the smallest burst, or such requests would pass only while nobody owes anything.
 */
const SECONDS_PER_REQUEST = 0.5;
/** Tokens of one request while the limit is not known: workers that start together must not use it up at once. */
const UNKNOWN_TOKENS = 10_000;
/** Part of the day's money that one request is estimated to take at most; four times that may have to be reserved. */
const CAP_PER_REQUEST = 1 / 16;

/**
 * Tokens that one request takes at most.
 * @param price USD for a million tokens; 0 where it costs nothing or nobody knows
 * @param capPerDay USD
 */
export function mostTokensPerRequest(
  { requestsPerMinute, tokensPerMinute }: KnownLimits,
  { price, capPerDay }: { readonly price: number; readonly capPerDay: number | undefined },
): number {
  const affordable =
    capPerDay === undefined || price === 0
      ? Number.POSITIVE_INFINITY
      : Math.max(1, (capPerDay / price) * 1e6 * CAP_PER_REQUEST);
  if (tokensPerMinute === undefined) return Math.min(UNKNOWN_TOKENS, affordable);
  const even = requestsPerMinute === undefined ? 0 : tokensPerMinute / requestsPerMinute;
  return Math.min(affordable, Math.max(even, (tokensPerMinute / 60) * SECONDS_PER_REQUEST));
}
