import { APIConnectionError, APIError } from 'openai';
import { EmbedError } from '../port.js';
import { fromRefusal, unreachable } from './refusal.js';

const ADVICE = {
  key: 'check OPENAI_API_KEY',
  redirect: 'redirects are not followed: set OPENAI_BASE_URL to where it leads',
  request: 'check OPENAI_BASE_URL and the name of the model',
};

/**
 * Sorts an error of the OpenAI client by who is to blame. The provider's own message is never copied, because it may
 * quote the input or the key.
 */
export function toEmbedError(error: unknown, spec: string): EmbedError {
  if (error instanceof APIError && error.status !== undefined) {
    const { status, code, type, param, headers } = error;
    return fromRefusal(
      { status, code, type, param, message: messageOf(error), header: (name) => headers?.get(name) },
      spec,
      ADVICE,
    );
  }
  if (error instanceof APIConnectionError) return unreachable(error, spec);
  if (error instanceof SyntaxError) return new EmbedError('bad_response', `${spec} did not answer with valid JSON`);
  // undici: "terminated", when the connection breaks inside the body
  if (error instanceof TypeError) return new EmbedError('unavailable', `the answer of ${spec} broke off`);
  return new EmbedError('unavailable', `${spec} failed (${error instanceof Error ? error.name : typeof error})`);
}

/** What the server wrote. The client's own message puts the status before it. */
function messageOf({ error }: { readonly error: unknown }): unknown {
  if (typeof error === 'string') return error;
  return typeof error === 'object' && error !== null && 'message' in error ? error.message : undefined;
}
