import type OpenAI from 'openai';
import { fingerprint, type ModelSpec } from '../../catalog/model.js';
import type { EmbeddingModel, EmbedResult } from '../port.js';
import type { EmbedSettings } from '../settings.js';
import { openCounter, type TokenCounter } from '../tokens.js';
import { underDeadline } from './deadline.js';
import { readAnswer } from './openai-answer.js';
import { createClient } from './openai-client.js';
import { toEmbedError } from './openai-errors.js';
import { rateLimitOf } from './response-headers.js';

/**
 * OpenAI's embeddings, or those of any server that speaks the same protocol (Azure, vLLM, TEI, Ollama).
 * `dimensions` is sent only for text-embedding-3-*, which can shorten their vectors; of any other model the spec must
 * name the dimensions that it has, and the answer is checked. The base URL is not part of the fingerprint: a model is
 * the same wherever it is served. Throws EmbedError `configuration` for a missing key or an impossible base URL.
 */
export async function openOpenAI(model: ModelSpec, settings: EmbedSettings): Promise<EmbeddingModel> {
  const openai = settings.openai ?? {};
  const { client, account } = createClient(openai, model);
  const counter = await openCounter(model.name);
  return {
    spec: model.spec,
    fingerprint: fingerprint(model, { revision: '', normalised: false }),
    dimensions: model.dimensions,
    // https://platform.openai.com/docs/api-reference/embeddings/create
    limits: {
      maxInputs: openai.maxInputs ?? 2048,
      maxTokensPerInput: openai.maxTokensPerInput ?? 8191,
      maxTokensPerRequest: openai.maxTokensPerRequest ?? 300_000,
    },
    account,
    countTokens: (text) => counter.count(text),
    ...(counter.fit && { fit: counter.fit }),
    countsExactly: counter.exact,
    close: async () => {},
    embed: (texts, { signal }) => {
      const timeoutMs = settings.requestTimeoutMs;
      return underDeadline((inner) => request(client, model, texts, counter, inner, timeoutMs), {
        spec: model.spec,
        timeoutMs,
        signal,
        toEmbedError: (error) => toEmbedError(error, model.spec),
      });
    },
  };
}

async function request(
  client: OpenAI,
  model: ModelSpec,
  texts: readonly string[],
  counter: TokenCounter,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<EmbedResult> {
  const { data, response } = await client.embeddings
    .create(
      {
        model: model.name,
        input: [...texts],
        encoding_format: 'base64',
        ...(model.name.startsWith('text-embedding-3-') && { dimensions: model.dimensions }),
      },
      { signal, timeout: timeoutMs + 1000 },
    )
    .withResponse();
  const result = readAnswer(data, model, texts, counter);
  const rateLimit = rateLimitOf((name) => response.headers.get(name));
  return rateLimit === undefined ? result : { ...result, rateLimit };
}
