import OpenAI from 'openai';
import { fingerprint, type ModelSpec } from '../../catalog/model.js';
import { type EmbeddingModel, EmbedError, type EmbedResult } from '../port.js';
import type { EmbedSettings, OpenAISettings } from '../settings.js';
import { estimateTokens } from '../tokens.js';
import { readAnswer } from './openai-answer.js';
import { toEmbedError } from './openai-errors.js';

const DEFAULT_BASE_URL = 'https://api.openai.com/v1';

/**
 * OpenAI's embeddings, or those of any server that speaks the same protocol (Azure, vLLM, TEI, Ollama).
 * `dimensions` is sent only for text-embedding-3-*, which can shorten their vectors; of any other model the spec must
 * name the dimensions that it has, and the answer is checked. The base URL is not part of the fingerprint: a model is
 * the same wherever it is served. Throws EmbedError `configuration` for a missing key or an impossible base URL.
 */
export function openOpenAI(model: ModelSpec, settings: EmbedSettings): EmbeddingModel {
  const client = createClient(settings.openai ?? {});
  return {
    spec: model.spec,
    fingerprint: fingerprint(model, { revision: '', normalised: false }),
    dimensions: model.dimensions,
    // https://platform.openai.com/docs/api-reference/embeddings/create
    limits: { maxInputs: 2048, maxTokensPerInput: 8191, maxTokensPerRequest: 300_000 },
    countTokens: estimateTokens,
    close: async () => {},
    embed: (texts, { signal }) => request(client, model, texts, settings.requestTimeoutMs, signal),
  };
}

function createClient(settings: OpenAISettings): OpenAI {
  const baseURL = settings.baseUrl || DEFAULT_BASE_URL;
  checkBaseUrl(baseURL);
  const apiKey = settings.apiKey || (baseURL === DEFAULT_BASE_URL ? undefined : 'none');
  if (apiKey === undefined) {
    throw new EmbedError('configuration', 'set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that needs no key');
  }
  return new OpenAI({
    apiKey,
    baseURL,
    // null, not undefined: the client must not read the environment, our configuration has done so.
    organization: settings.organization ?? null,
    project: settings.project ?? null,
    adminAPIKey: null,
    webhookSecret: null,
    maxRetries: 0,
    // Its debug log holds the texts.
    logLevel: 'off',
    // A redirect would carry key and texts to a host that nobody configured.
    fetchOptions: { redirect: 'manual' },
  });
}

function checkBaseUrl(baseUrl: string): void {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new EmbedError('configuration', 'OPENAI_BASE_URL is not an http or https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw new EmbedError('configuration', 'OPENAI_BASE_URL holds a user or password: use OPENAI_API_KEY instead');
  }
}

async function request(
  client: OpenAI,
  model: ModelSpec,
  texts: readonly string[],
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<EmbedResult> {
  // A controller of our own: the client's time-out ends with the headers, and it never removes its listener from the
  // signal, which lives as long as the worker.
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, timeoutMs);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    signal?.throwIfAborted();
    const answer: unknown = await client.embeddings.create(
      {
        model: model.name,
        input: [...texts],
        encoding_format: 'base64',
        ...(model.name.startsWith('text-embedding-3-') && { dimensions: model.dimensions }),
      },
      { signal: controller.signal, timeout: timeoutMs + 1000 },
    );
    return readAnswer(answer, model, texts);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof EmbedError) throw error;
    if (controller.signal.aborted) {
      throw new EmbedError('unavailable', `${model.spec} did not answer within ${timeoutMs} ms`);
    }
    throw toEmbedError(error, model.spec);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}
