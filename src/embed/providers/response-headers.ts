import type { RateLimitState } from '../port.js';

/** A header of a response by its lower-case name. */
export type HeaderOf = (name: string) => string | null | undefined;

/** A provider is asked again after so long, whatever it names: it may be a mistake, or mended meanwhile. */
const MOST_WAIT_MS = 15 * 60_000;

/**
 * ms to wait, 15 minutes at most, from `retry-after-ms` or from `retry-after` in seconds or as an HTTP date (RFC 9110,
 * 10.2.3). A date is held against the answer's own, since the clock here may be off.
 */
export function retryAfterOf(header: HeaderOf): number | undefined {
  const ms = nonNegative(header('retry-after-ms')) ?? secondsOf(header('retry-after')) ?? untilOf(header);
  return ms === undefined ? undefined : Math.min(MOST_WAIT_MS, Math.ceil(ms));
}

function secondsOf(value: string | null | undefined): number | undefined {
  const seconds = nonNegative(value);
  return seconds === undefined ? undefined : seconds * 1000;
}

function untilOf(header: HeaderOf): number | undefined {
  const until = Date.parse(header('retry-after') ?? '');
  if (Number.isNaN(until)) return undefined;
  const sent = Date.parse(header('date') ?? '');
  return Math.max(0, until - (Number.isNaN(sent) ? Date.now() : sent));
}

/**
 * What the `x-ratelimit-*` headers say, or undefined if they say nothing. What cannot be read is left out.
 * https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"
 */
export function rateLimitOf(header: HeaderOf): RateLimitState | undefined {
  const fields: Record<keyof RateLimitState, number | undefined> = {
    limitRequests: whole(header('x-ratelimit-limit-requests')),
    remainingRequests: whole(header('x-ratelimit-remaining-requests')),
    resetRequestsMs: duration(header('x-ratelimit-reset-requests')),
    limitTokens: whole(header('x-ratelimit-limit-tokens')),
    remainingTokens: whole(header('x-ratelimit-remaining-tokens')),
    resetTokensMs: duration(header('x-ratelimit-reset-tokens')),
  };
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return known.length === 0 ? undefined : Object.fromEntries(known);
}

const UNIT_MS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
/** No limit lasts longer; a larger number is a date or a mistake. */
const MOST_MS = 31 * 86_400_000;

/** ms of `6m0s`, `1.5s`, `120ms`, or of a bare number of seconds. */
function duration(text: string | null | undefined): number | undefined {
  let ms = secondsOf(text);
  const written = text?.trim() ?? '';
  if (/^(\d+(\.\d+)?(ms|[dhms]))+$/.test(written)) {
    ms = 0;
    for (const [, amount, unit = ''] of written.matchAll(/(\d+(?:\.\d+)?)(ms|[dhms])/g)) {
      ms += Number(amount) * (UNIT_MS[unit] ?? 0);
    }
  }
  return ms !== undefined && ms <= MOST_MS ? Math.ceil(ms) : undefined;
}

function whole(text: string | null | undefined): number | undefined {
  return text && /^\s*\d{1,15}\s*$/.test(text) ? Number(text) : undefined;
}

function nonNegative(text: string | null | undefined): number | undefined {
  return text && /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : undefined;
}
