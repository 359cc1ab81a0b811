import type { FaultRule } from './faults.js';

/** What each fault is to a provider of ours: the failure of the EmbedError, and some of its details. */
export const FAULT_CASES: readonly (readonly [FaultRule, string, object])[] = [
  [{ kind: 'rate_limited', retryAfterMs: 1500 }, 'rate_limited', { status: 429, retryAfterMs: 1500 }],
  [{ kind: 'server_error' }, 'unavailable', { status: 500 }],
  [{ kind: 'overloaded', retryAfterMs: 3000 }, 'unavailable', { status: 503, retryAfterMs: 3000 }],
  [{ kind: 'unauthorised' }, 'unauthorised', { status: 401 }],
  [{ kind: 'insufficient_quota' }, 'quota_exhausted', { status: 429 }],
  [{ kind: 'html' }, 'unavailable', { status: 502 }],
  [{ kind: 'html', status: 200 }, 'bad_response', {}],
  [{ kind: 'hang' }, 'unavailable', {}],
  [{ kind: 'reset' }, 'unavailable', {}],
  [{ kind: 'cut_off' }, 'unavailable', {}],
  [{ kind: 'drip', chunks: 100, everyMs: 20 }, 'unavailable', {}],
  [{ kind: 'short' }, 'bad_response', {}],
  [{ kind: 'wrong_dimension' }, 'bad_response', {}],
  [{ kind: 'nan' }, 'bad_response', {}],
  [{ kind: 'null' }, 'bad_response', {}],
  [{ kind: 'all_zero' }, 'bad_response', {}],
  [{ kind: 'not_json' }, 'bad_response', {}],
  [{ kind: 'half_json' }, 'bad_response', {}],
];
