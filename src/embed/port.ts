import { FreshvecError } from '../db/errors.js';

/** What a provider can take in one request. */
export interface EmbedLimits {
  readonly maxInputs: number;
  readonly maxTokensPerInput: number;
  readonly maxTokensPerRequest: number;
}

/** Documents are stored, queries are searched with: some models want another prefix for each. */
export type EmbedPurpose = 'document' | 'query';

export interface EmbedResult {
  /** One per text, in the order of the texts; Float32Array of length `dimensions`, checked. */
  readonly vectors: Float32Array[];
  /** Tokens that the provider charged, or our count for a local model. */
  readonly tokens: number;
}

/** One model, ready to embed. Implementations live in `providers/`; `open.ts` finds the one for a spec. */
export interface EmbeddingModel {
  /** As the user wrote it: `provider/name@dimensions`. */
  readonly spec: string;
  /** `provider/name@dimensions#hash`: whatever changes the vectors' meaning changes it. */
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly limits: EmbedLimits;
  /** Embeds every text or throws an EmbedError. Never resolves to fewer vectors than texts. */
  embed(texts: readonly string[], options: { signal?: AbortSignal; purpose: EmbedPurpose }): Promise<EmbedResult>;
  /** Estimate of the tokens of one text, for batching and plans. */
  countTokens(text: string): number;
  close(): Promise<void>;
}

/**
 * What went wrong, sorted by who is to blame:
 * `input_rejected` is the text's fault; `rate_limited`, `unavailable` and `bad_response` are the provider's and only
 * delay; `unauthorised` and `configuration` stop the source until a person mends them.
 */
export type EmbedFailure =
  | 'rate_limited'
  | 'input_rejected'
  | 'unauthorised'
  | 'unavailable'
  | 'bad_response'
  | 'configuration';

/** An embedding call that failed. The message never holds a text, a key or a URL with credentials. */
export class EmbedError extends FreshvecError {
  override readonly name = 'EmbedError';
  constructor(
    readonly failure: EmbedFailure,
    message: string,
    readonly details: { readonly retryAfterMs?: number; readonly status?: number } = {},
  ) {
    super(`embed_${failure}`, message);
  }
}
