import { EmbedError, type EmbedFailure } from '../port.js';
import { type HeaderOf, rateLimitOf, retryAfterOf } from './response-headers.js';
import { readTooLong } from './too-long.js';

/** An answer without vectors. Of its body only these fields are looked at: the rest may quote the input or the key. */
export interface Refusal {
  readonly status: number;
  readonly code: unknown;
  readonly type: unknown;
  /** Which field of the request is wrong. */
  readonly param: unknown;
  /** Its free text: looked at for what it says of lengths, never copied. */
  readonly message: unknown;
  readonly header: HeaderOf;
}

/** What a person can look at, as they know it. */
export interface Advice {
  /** Such as `check OPENAI_API_KEY`. */
  readonly key: string;
  readonly redirect: string;
  readonly request: string;
}

/** Sorts a refusal by who is to blame. Status, code and type must do: no free text is copied. */
export function fromRefusal(refusal: Refusal, spec: string, advice: Advice): EmbedError {
  const { status } = refusal;
  const retryAfterMs = retryAfterOf(refusal.header);
  const rateLimit = rateLimitOf(refusal.header);
  const details = {
    status,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(rateLimit !== undefined && { rateLimit }),
  };
  const labels = [...new Set([refusal.code, refusal.type].map(label).filter((word) => word !== undefined))];
  const what = `${spec}: HTTP ${[status, ...labels].join(' ')}`;
  const tooLong = readTooLong(status, labels, refusal.message);
  if (tooLong) return new EmbedError('input_rejected', `${what}; the text is too long`, { ...details, tooLong });
  const { failure, hint } = judge(refusal, labels, advice);
  return new EmbedError(failure, hint === undefined ? what : `${what}; ${hint}`, details);
}

/** Request fields of ours: a complaint about them is not the text's fault, though its status is 400. */
const OUR_FIELDS: ReadonlySet<unknown> = new Set(['model', 'dimensions', 'encoding_format']);
/** https://platform.openai.com/docs/guides/error-codes */
const OUT_OF_MONEY = new Set(['insufficient_quota', 'billing_not_active', 'billing_hard_limit_reached']);

function judge({ status, param }: Refusal, labels: string[], advice: Advice): { failure: EmbedFailure; hint?: string } {
  if (status === 402 || (status < 500 && labels.some((word) => OUT_OF_MONEY.has(word)))) {
    return { failure: 'quota_exhausted', hint: 'what this key may spend is used up' };
  }
  if (status === 401 || status === 403) return { failure: 'unauthorised', hint: advice.key };
  if (status === 429) return { failure: 'rate_limited' };
  if ([408, 409, 424, 425].includes(status) || status >= 500) return { failure: 'unavailable' };
  if (status >= 300 && status < 400) return { failure: 'configuration', hint: advice.redirect };
  if (status === 400 || status === 413 || status === 422) {
    if (labels.includes('model_not_found') || OUR_FIELDS.has(param)) {
      return { failure: 'configuration', hint: 'check the name and the dimensions of the model' };
    }
    return { failure: 'input_rejected' };
  }
  return { failure: 'configuration', hint: advice.request };
}

/** A word such as `rate_limit_exceeded`; anything else might be free text. */
function label(value: unknown): string | undefined {
  return typeof value === 'string' && /^[a-z][a-z_]{0,47}$/.test(value) ? value : undefined;
}

/** OpenSSL's and Node's codes for a certificate that is not accepted. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/;
/** Where no connection comes about. Of others, such as ECONNRESET, nobody knows how far the request came. */
const NO_CONNECTION: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** No answer came: why, as far as the chain of causes tells. */
export function unreachable(error: unknown, spec: string): EmbedError {
  const code = socketCode(error);
  if (code === undefined) return new EmbedError('unavailable', `${spec} cannot be reached`);
  const notSent = { notSent: true };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return new EmbedError(
      'unavailable',
      `${spec} was not asked: its certificate is for another host (${code})`,
      notSent,
    );
  }
  if (CERTIFICATE.test(code)) {
    return new EmbedError('unavailable', `${spec} was not asked: its certificate is not trusted (${code})`, notSent);
  }
  return new EmbedError('unavailable', `${spec} cannot be reached (${code})`, NO_CONNECTION.has(code) ? notSent : {});
}

/** Such as ECONNREFUSED, from the chain of causes. */
function socketCode(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if ('code' in cause && typeof cause.code === 'string' && /^[A-Z_]{2,40}$/.test(cause.code)) return cause.code;
  }
  return undefined;
}
