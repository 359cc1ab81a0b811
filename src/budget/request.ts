import type { GateRequest } from '../embed/gate.js';
import { type EmbedError, NEEDS_PERSON } from '../embed/port.js';
import { type ChargedTo, microsOf } from './spend.js';

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
  readonly day: string | null;
  readonly tokens: number;
  readonly reserved: number;
  /** It goes ahead of all others, which wait for what it tells of the provider's health. */
  readonly probe: boolean;
}

export const NOTHING: Grant = { day: null, tokens: 0, reserved: 0, probe: false };

export function granted({ tokens, mostTokens, purse }: Asked, { day, probe }: Pick<Grant, 'day' | 'probe'>): Grant {
  return { day, tokens, reserved: microsOf(mostTokens, purse.price), probe };
}

export function isOutage({ failure }: EmbedError): boolean {
  return failure !== 'input_rejected' && !NEEDS_PERSON.has(failure);
}

/** An answer that is no good, and one that never came, may have been charged for. */
export function mayBeCharged(refused: EmbedError | undefined): boolean {
  if (refused === undefined || refused.failure === 'bad_response') return true;
  return refused.failure === 'unavailable' && refused.details.status === undefined;
}
