import { APIConnectionError, APIError } from 'openai';
import { EmbedError, type EmbedFailure } from '../port.js';

/**
 * Sorts an error of the OpenAI client by who is to blame. The provider's own message is never copied, because it may
 * quote the input or the key: status, code and type must do.
 */
export function toEmbedError(error: unknown, spec: string): EmbedError {
  if (error instanceof APIError && error.status !== undefined) return fromStatus(error, error.status, spec);
  if (error instanceof APIConnectionError) {
    const code = socketCode(error);
    return new EmbedError('unavailable', `${spec} cannot be reached${code === undefined ? '' : ` (${code})`}`);
  }
  if (error instanceof SyntaxError) return new EmbedError('bad_response', `${spec} did not answer with valid JSON`);
  // undici: "terminated", when the connection breaks inside the body
  if (error instanceof TypeError) return new EmbedError('unavailable', `the answer of ${spec} broke off`);
  return new EmbedError('unavailable', `${spec} failed (${error instanceof Error ? error.name : typeof error})`);
}

function fromStatus(error: APIError, status: number, spec: string): EmbedError {
  const retryAfterMs = retryAfter(error.headers);
  const details = { status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
  const labels = [...new Set([error.code, error.type].map(label).filter((word) => word !== undefined))];
  const what = `${spec}: HTTP ${[status, ...labels].join(' ')}`;
  const { failure, advice } = judge(error, status, labels);
  return new EmbedError(failure, advice === undefined ? what : `${what}; ${advice}`, details);
}

/** Request fields of ours: a complaint about them is not the text's fault, though its status is 400. */
const OUR_FIELDS = new Set(['model', 'dimensions', 'encoding_format']);

function judge(error: APIError, status: number, labels: string[]): { failure: EmbedFailure; advice?: string } {
  if (status === 402 || (status === 429 && labels.includes('insufficient_quota'))) {
    return { failure: 'unauthorised', advice: 'the quota of this key is used up' };
  }
  if (status === 401 || status === 403) return { failure: 'unauthorised', advice: 'check OPENAI_API_KEY' };
  if (status === 429) return { failure: 'rate_limited' };
  if (status === 408 || status === 409 || status === 425 || status >= 500) return { failure: 'unavailable' };
  if (status >= 300 && status < 400) {
    return { failure: 'configuration', advice: 'redirects are not followed: set OPENAI_BASE_URL to where it leads' };
  }
  if (status === 400 || status === 413 || status === 422) {
    if (labels.includes('model_not_found') || OUR_FIELDS.has(error.param ?? '')) {
      return { failure: 'configuration', advice: 'check the name and the dimensions of the model' };
    }
    return { failure: 'input_rejected' };
  }
  return { failure: 'configuration', advice: 'check OPENAI_BASE_URL and the name of the model' };
}

/** A word such as `rate_limit_exceeded`; anything else might be free text. */
function label(value: unknown): string | undefined {
  return typeof value === 'string' && /^[a-z][a-z_]{0,47}$/.test(value) ? value : undefined;
}

/** ms to wait, from `retry-after-ms` or from `retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3). */
function retryAfter(headers: Headers | undefined): number | undefined {
  const ms = nonNegative(headers?.get('retry-after-ms'));
  if (ms !== undefined) return Math.ceil(ms);
  const value = headers?.get('retry-after');
  const seconds = nonNegative(value);
  if (seconds !== undefined) return Math.ceil(seconds * 1000);
  const date = Date.parse(value ?? '');
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function nonNegative(text: string | null | undefined): number | undefined {
  return text && /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : undefined;
}

/** Such as ECONNREFUSED, from the chain of causes. */
function socketCode(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if ('code' in cause && typeof cause.code === 'string' && /^[A-Z_]{2,40}$/.test(cause.code)) return cause.code;
  }
  return undefined;
}
