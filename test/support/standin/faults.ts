/** What may go wrong at a provider: rows 33 to 39 and 45 of the fault matrix. */
export type Fault =
  // Refused before anything is counted or charged.
  | { readonly kind: 'rate_limited'; readonly retryAfterMs?: number }
  | { readonly kind: 'server_error'; readonly retryAfterMs?: number }
  | { readonly kind: 'overloaded'; readonly retryAfterMs?: number }
  | { readonly kind: 'unauthorised' }
  | { readonly kind: 'insufficient_quota' }
  | { readonly kind: 'redirect'; readonly location: string; readonly status?: 301 | 302 | 307 | 308 }
  | { readonly kind: 'html'; readonly status?: number }
  // Charged, but the answer does not arrive as it should.
  | { readonly kind: 'hang' }
  | { readonly kind: 'reset' }
  | { readonly kind: 'cut_off' }
  | { readonly kind: 'drip'; readonly chunks: number; readonly everyMs: number }
  // Charged, and the answer is not what was asked for.
  | { readonly kind: 'short' }
  | { readonly kind: 'reordered' }
  | { readonly kind: 'wrong_dimension' }
  | { readonly kind: 'nan' }
  | { readonly kind: 'null' }
  | { readonly kind: 'all_zero' }
  | { readonly kind: 'not_json' }
  | { readonly kind: 'half_json' }
  | { readonly kind: 'model_changed'; readonly seed: number };

/** A fault with the share of requests that it hits, and how many of them at most. */
export type FaultRule = Fault & {
  /** 0 to 1; 1 unless given. */
  readonly rate?: number;
  readonly times?: number;
  /** Only requests that contain this, in a text that JSON writes as it is. */
  readonly text?: string;
};

/** Chooses the fault of each request, if any: the first rule that hits. */
export class FaultPlan {
  private readonly rules: { readonly rule: FaultRule; left: number }[];

  constructor(
    rules: readonly FaultRule[],
    private readonly random: () => number,
  ) {
    this.rules = rules.map((rule) => ({ rule, left: rule.times ?? Number.POSITIVE_INFINITY }));
  }

  next(body: string): Fault | undefined {
    for (const entry of this.rules) {
      const { rate = 1, text = '' } = entry.rule;
      if (entry.left <= 0 || !body.includes(text) || (rate < 1 && this.random() >= rate)) continue;
      entry.left -= 1;
      return entry.rule;
    }
    return undefined;
  }
}

/** An answer in full, before a fault of the connection gets at it. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** OpenAI's form of an error. */
export function errorAnswer(
  status: number,
  error: { message: string; type: string; code?: string | null; param?: string | null },
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const body = JSON.stringify({ error: { param: null, code: null, ...error } });
  return { status, headers: { 'content-type': 'application/json', ...headers }, body };
}

/** RFC 9110 knows whole seconds only; OpenAI sends ms beside them. */
export function retryHeaders(ms: number | undefined): Record<string, string> {
  if (ms === undefined) return {};
  return { 'retry-after': String(Math.ceil(ms / 1000)), 'retry-after-ms': String(Math.ceil(ms)) };
}

/** The answer of a fault that refuses the request, or undefined for a fault of another sort. */
export function refusal(fault: Fault, key: string): Answer | undefined {
  switch (fault.kind) {
    case 'rate_limited': {
      const error = { message: 'Slow down.', type: 'requests', code: 'rate_limit_exceeded' };
      return errorAnswer(429, error, retryHeaders(fault.retryAfterMs));
    }
    case 'server_error':
      return errorAnswer(500, { message: 'Oops.', type: 'server_error' }, retryHeaders(fault.retryAfterMs));
    case 'overloaded':
      return errorAnswer(503, { message: 'Overloaded.', type: 'server_error' }, retryHeaders(fault.retryAfterMs));
    case 'unauthorised':
      // OpenAI quotes a part of the key; this one quotes it all, so that a leak shows.
      return errorAnswer(401, {
        message: `Incorrect API key provided: ${key}.`,
        type: 'invalid_request_error',
        code: 'invalid_api_key',
      });
    case 'insufficient_quota': {
      const kind = 'insufficient_quota';
      return errorAnswer(429, { message: 'You exceeded your current quota.', type: kind, code: kind });
    }
    case 'redirect':
      return { status: fault.status ?? 307, headers: { location: fault.location }, body: '' };
    case 'html':
      return {
        status: fault.status ?? 502,
        headers: { 'content-type': 'text/html' },
        body: '<html><h1>502 Bad Gateway</h1></html>',
      };
    default:
      return undefined;
  }
}
