import { EmbedError } from '../port.js';
import { fromRefusal, unreachable } from './refusal.js';

const ADVICE = {
  key: 'check the key that the AI SDK uses',
  redirect: 'set the base URL of the AI SDK provider to where it leads',
  request: 'check the base URL of the AI SDK provider and the name of the model',
};

/** By the names of the AI SDK's errors, as classes are not shared between its versions. */
const BY_NAME: Readonly<Record<string, { failure: 'configuration' | 'bad_response'; what: string }>> = {
  AI_LoadAPIKeyError: { failure: 'configuration', what: 'has no API key' },
  AI_LoadSettingError: { failure: 'configuration', what: 'lacks a setting' },
  AI_InvalidArgumentError: { failure: 'configuration', what: 'refuses its options' },
  AI_NoSuchModelError: { failure: 'configuration', what: 'is no model of its provider' },
  AI_UnsupportedFunctionalityError: { failure: 'configuration', what: 'cannot do what was asked' },
  AI_TooManyEmbeddingValuesForCallError: { failure: 'configuration', what: 'takes fewer texts: set maxInputs' },
  AI_InvalidResponseDataError: { failure: 'bad_response', what: 'did not answer with a list of embeddings' },
  AI_TypeValidationError: { failure: 'bad_response', what: 'did not answer with a list of embeddings' },
  AI_EmptyResponseBodyError: { failure: 'bad_response', what: 'answered with nothing' },
  AI_JSONParseError: { failure: 'bad_response', what: 'did not answer with valid JSON' },
};

/** Sorts an error of an AI SDK model by who is to blame. Its message is never copied: it may quote the input. */
export function fromAiSdkError(error: unknown, spec: string): EmbedError {
  if (!(error instanceof Error)) return new EmbedError('unavailable', `${spec} failed (${typeof error})`);
  const known = Object.hasOwn(BY_NAME, error.name) ? BY_NAME[error.name] : undefined;
  if (known) return new EmbedError(known.failure, `${spec} ${known.what}`);
  if (error.name !== 'AI_APICallError') return unreachable(error, spec);
  const status = field(error, 'statusCode');
  if (typeof status !== 'number') return unreachable(error, spec);
  if (status >= 200 && status < 300) return unreadable(error, status, spec);
  const headers = field(error, 'responseHeaders');
  const told = field(field(error, 'data'), 'error');
  return fromRefusal(
    {
      status,
      code: field(told, 'code'),
      type: field(told, 'type'),
      param: field(told, 'param'),
      message: error.message,
      header: (name) => headerIn(headers, name),
    },
    spec,
    ADVICE,
  );
}

/** An answer of status 200 that was not understood, or that broke off before its end. */
function unreadable(error: Error, status: number, spec: string): EmbedError {
  const cause = error.cause instanceof Error ? error.cause.name : undefined;
  // undici throws TypeError "terminated" when the connection breaks inside the body.
  if (cause === 'TypeError') return new EmbedError('unavailable', `the answer of ${spec} broke off`);
  return new EmbedError('bad_response', `${spec} did not answer with a list of embeddings`, { status });
}

function headerIn(headers: unknown, name: string): string | undefined {
  const value = field(headers, name);
  return typeof value === 'string' ? value : undefined;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
