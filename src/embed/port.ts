import { FreshvecError } from '../db/errors.js';

/** What a provider can take in one request. */
export interface EmbedLimits {
  readonly maxInputs: number;
  readonly maxTokensPerInput: number;
  readonly maxTokensPerRequest: number;
  /** A batch takes as long as its longest text: texts of like length go together. True of models that run here. */
  readonly likeLengths?: boolean;
}

/** What a provider said is left of its limits; a field it did not name is absent. */
export interface RateLimitState {
  /** Per minute. */
  readonly limitRequests?: number;
  readonly remainingRequests?: number;
  /** Until the whole limit is there again. */
  readonly resetRequestsMs?: number;
  /** Per minute. */
  readonly limitTokens?: number;
  readonly remainingTokens?: number;
  readonly resetTokensMs?: number;
}

/** Documents are stored, queries are searched with: some models want another prefix for each. */
export type EmbedPurpose = 'document' | 'query';

export interface EmbedResult {
  /** One per text, in the order of the texts; Float32Array of length `dimensions`, checked. */
  readonly vectors: Float32Array[];
  /** Tokens that the provider charged, or our count for a local model. */
  readonly tokens: number;
  readonly rateLimit?: RateLimitState | undefined;
}

/** One model, ready to embed. Implementations live in `providers/`; `open.ts` finds the one for a spec. */
export interface EmbeddingModel {
  /** As the user wrote it: `provider/name@dimensions`. */
  readonly spec: string;
  /** `provider/name@dimensions#hash`: whatever changes the vectors' meaning changes it. */
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly limits: EmbedLimits;
  /**
   * Names the account at the provider whose limits this model shares, for budgets: a hash of base URL and key, in which
   * neither can be read. Undefined for a model that runs in this process.
   */
  readonly account?: string | undefined;
  /** Embeds every text or throws an EmbedError. Never resolves to fewer vectors than texts. */
  embed(texts: readonly string[], options: { signal?: AbortSignal; purpose: EmbedPurpose }): Promise<EmbedResult>;
  /** Estimate of the tokens of one text, for batching and plans. */
  countTokens(text: string): number;
  /**
   * How much of a text is no more than `maxTokens`, by the model's own tokeniser: UTF-16 units of its longest such
   * beginning, in a time that `maxTokens` bounds. Absent where only the provider can tell.
   */
  fit?(text: string, maxTokens: number): number;
  /** True where that is what the provider charges, to the token; else money is reserved for a token per byte. */
  readonly countsExactly?: boolean;
  close(): Promise<void>;
}

/**
 * What went wrong, sorted by who is to blame:
 * `input_rejected` is the text's fault; `rate_limited`, `unavailable` and `bad_response` are the provider's and only
 * delay, unless it fails so at one text and takes others; `unauthorised`, `quota_exhausted`, `spend_cap`,
 * `model_changed` and `configuration` stop the source until a person mends them, the last one in this process only where
 * no provider answered so (no `status`).
 */
export type EmbedFailure =
  | 'rate_limited'
  | 'input_rejected'
  | 'unauthorised'
  | 'quota_exhausted'
  | 'spend_cap'
  | 'unavailable'
  | 'bad_response'
  | 'model_changed'
  | 'configuration';

/** Failures that do not mend themselves. All others but `input_rejected` are outages: they pass. */
export const NEEDS_PERSON: ReadonlySet<EmbedFailure> = new Set([
  'unauthorised',
  'quota_exhausted',
  'spend_cap',
  'model_changed',
  'configuration',
]);

/** An internal error, TEI's word for a failed inference, and a backend that broke off: some fail so at one text, always. */
const FAILED_AT_REQUEST: ReadonlySet<number | undefined> = new Set([424, 500, 502]);

/**
 * Whether a failure of the provider's may be no outage: it dealt with the request, and some text of it may be what it
 * cannot deal with. Not where it says that it is overloaded or slow, or when to come again.
 */
export function mayBeOfOneText({ failure, details: { status, retryAfterMs } }: EmbedError): boolean {
  if (failure === 'bad_response') return true;
  return failure === 'unavailable' && retryAfterMs === undefined && FAILED_AT_REQUEST.has(status);
}

/** What a provider said of a text that it refused as too long; absent what it did not name. */
export interface TooLong {
  /** Tokens that it takes of one text. */
  readonly maxTokens?: number;
  /** Tokens of the refused text, as it counts them. */
  readonly tokens?: number;
}

/** An embedding call that failed. The message never holds a text, a key or a URL with credentials. */
export class EmbedError extends FreshvecError {
  override readonly name = 'EmbedError';
  constructor(
    readonly failure: EmbedFailure,
    message: string,
    readonly details: {
      readonly retryAfterMs?: number;
      readonly status?: number;
      /** The request never reached the provider, so nothing was charged. */
      readonly notSent?: boolean;
      readonly rateLimit?: RateLimitState | undefined;
      /** With `input_rejected`: some text of the request is longer than the model takes. */
      readonly tooLong?: TooLong | undefined;
      /** With `input_rejected`: the provider did not say so, but failed at these texts and took a harmless one. */
      readonly unsure?: true;
    } = {},
  ) {
    super(`embed_${failure}`, message);
  }
}
