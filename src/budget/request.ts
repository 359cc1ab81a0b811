import type { GateRequest } from '../embed/gate.js';
import { type EmbedError, NEEDS_PERSON, type RateLimitState } from '../embed/port.js';
import type { Moment, Settlement } from './account.js';
import { type ChargedTo, nanosOf } from './spend.js';

/** Whose money it is, and how much a token costs. */
export interface Purse extends ChargedTo {
  readonly fingerprint: string;
  /** USD for a million tokens; 0 where it costs nothing or nobody knows. */
  readonly price: number;
}

export interface Asked extends GateRequest {
  readonly purse: Purse;
}

/** What was taken for a request, if anything was. */
export interface Grant {
  readonly period: number | null;
  readonly tokens: number;
  readonly reserved: number;
  /** It goes ahead of all others, which wait for what it tells of the provider's health. */
  readonly probe: boolean;
  readonly moment: Moment | undefined;
}

export const NOTHING: Grant = { period: null, tokens: 0, reserved: 0, probe: false, moment: undefined };

type Given = Pick<Grant, 'period' | 'probe' | 'moment'>;

export function granted({ tokens, mostTokens, purse }: Asked, { period, probe, moment }: Given): Grant {
  return { period, tokens, reserved: nanosOf(mostTokens, purse.price), probe, moment };
}

/**
 * What others took of the limits: as much as the answer says is left falls short of what was spare with the request. What
 * the provider does not name counts as enough.
 */
export function elsewhereOf({ moment }: Grant, left: RateLimitState | undefined): Settlement['elsewhere'] {
  if (moment === undefined || left === undefined) return undefined;
  const missing = (spare: number | null, remaining: number | undefined) =>
    spare === null || remaining === undefined ? 0 : Math.max(0, spare - remaining);
  return {
    at: moment.at,
    requests: missing(moment.requestsSpare, left.remainingRequests),
    tokens: missing(moment.tokensSpare, left.remainingTokens),
  };
}

export function isOutage({ failure }: EmbedError): boolean {
  return failure !== 'input_rejected' && !NEEDS_PERSON.has(failure);
}

/** An answer that is no good, and one that never came, may have been charged for. */
export function mayBeCharged(refused: EmbedError | undefined): boolean {
  if (refused === undefined || refused.failure === 'bad_response') return true;
  const { status, notSent = false } = refused.details;
  return refused.failure === 'unavailable' && status === undefined && !notSent;
}
