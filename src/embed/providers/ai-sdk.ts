import { fingerprint, MAX_DIMENSIONS, type ModelSpec } from '../../catalog/model.js';
import { inIndexOrder, withChecks } from '../check.js';
import { type EmbeddingModel, EmbedError, type EmbedPurpose, type EmbedResult } from '../port.js';
import { chargedTokens, learningCounter, type TokenCounter } from '../tokens.js';
import { accountId } from './account.js';
import { fromAiSdkError } from './ai-sdk-errors.js';
import { underDeadline } from './deadline.js';
import { rateLimitOf } from './response-headers.js';

/** By provider of the AI SDK, such as `{ cohere: { inputType: 'search_document' } }`. */
export type AiSdkProviderOptions = Record<string, Record<string, AiSdkJson>>;
export type AiSdkJson = null | string | number | boolean | AiSdkJson[] | { [key: string]: AiSdkJson | undefined };

/** What is used of an embedding model of the Vercel AI SDK, specification v2 or v3 (AI SDK 5 and 6). */
export interface AiSdkEmbeddingModel {
  readonly specificationVersion: 'v2' | 'v3';
  readonly provider: string;
  readonly modelId: string;
  readonly maxEmbeddingsPerCall: PromiseLike<number | undefined> | number | undefined;
  doEmbed(options: {
    values: string[];
    abortSignal?: AbortSignal;
    providerOptions?: AiSdkProviderOptions;
  }): PromiseLike<{
    embeddings: number[][];
    usage?: { tokens: number } | undefined;
    response?: { headers?: Record<string, string>; body?: unknown } | undefined;
  }>;
}

export interface FromAiSdkOptions {
  /** The model's name in its spec, `ai/NAME@DIMENSIONS`, which sources refer to. No spaces and no #. */
  readonly name: string;
  /** Length of its vectors, 1 to 16,000; the answers are checked. */
  readonly dimensions: number;
  /** Part of the fingerprint: another one when the vectors mean something else under the same model id. */
  readonly revision?: string;
  /** Passed on with documents and with queries; those of documents are part of the fingerprint. */
  readonly providerOptions?: Partial<Record<EmbedPurpose, AiSdkProviderOptions>>;
  /** Texts per request; what the model names as `maxEmbeddingsPerCall`, else 96, unless given. */
  readonly maxInputs?: number;
  /** Default 8191. */
  readonly maxTokensPerInput?: number;
  /** Default 300,000. */
  readonly maxTokensPerRequest?: number;
  /** From sending a request to the last byte of its answer; default 30 s. */
  readonly requestTimeoutMs?: number;
  /** Models with the same word share their limits at the provider; by default each model has its own. */
  readonly account?: string;
}

/**
 * An embedding model of the Vercel AI SDK as one of freshvec's, with every response checked:
 * `fromAiSdk(openai.embedding('text-embedding-3-small'), { name: 'small', dimensions: 1536 })`.
 *
 * The AI SDK's fetch follows redirects, with the texts: give the provider a `fetch` of its own where that matters.
 * Throws EmbedError `configuration` for a name or dimensions that no spec could have.
 */
export function fromAiSdk(aiModel: AiSdkEmbeddingModel, options: FromAiSdkOptions): EmbeddingModel {
  const model = specOf(options);
  const counter = learningCounter();
  const { providerOptions = {}, requestTimeoutMs = 30_000 } = options;
  // The model id is what the name stands for; the revision tells what else may change beneath it.
  const revision = stable([aiModel.modelId, options.revision ?? '', providerOptions.document ?? {}]);
  return withChecks({
    spec: model.spec,
    fingerprint: fingerprint(model, { revision, normalised: false }),
    dimensions: model.dimensions,
    limits: {
      maxInputs: options.maxInputs ?? perCall(aiModel),
      maxTokensPerInput: options.maxTokensPerInput ?? 8191,
      maxTokensPerRequest: options.maxTokensPerRequest ?? 300_000,
    },
    account: accountId('ai', options.account ?? `${aiModel.provider}/${aiModel.modelId}`),
    countTokens: (text) => counter.count(text),
    close: async () => {},
    embed: (texts, { signal, purpose }) =>
      underDeadline((inner) => request(aiModel, model, texts, counter, inner, providerOptions[purpose]), {
        spec: model.spec,
        timeoutMs: requestTimeoutMs,
        signal,
        toEmbedError: (error) => fromAiSdkError(error, model.spec),
      }),
  });
}

function specOf({ name, dimensions }: FromAiSdkOptions): ModelSpec {
  if (!/^[^\s#@]+$/.test(name)) {
    throw new EmbedError('configuration', 'the name of an AI SDK model may hold no space, @ or #');
  }
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw new EmbedError('configuration', `an AI SDK model must have 1 to ${MAX_DIMENSIONS} dimensions`);
  }
  return { provider: 'ai', name, dimensions, spec: `ai/${name}@${dimensions}` };
}

/** A promise cannot be waited for here; 96 is the least that a provider of the AI SDK names (Cohere). */
function perCall({ maxEmbeddingsPerCall }: AiSdkEmbeddingModel): number {
  if (typeof maxEmbeddingsPerCall !== 'number') return 96;
  return Math.max(1, Math.min(maxEmbeddingsPerCall, 2048));
}

async function request(
  aiModel: AiSdkEmbeddingModel,
  model: ModelSpec,
  texts: readonly string[],
  counter: TokenCounter,
  abortSignal: AbortSignal,
  providerOptions: AiSdkProviderOptions | undefined,
): Promise<EmbedResult> {
  const { embeddings, usage, response } = await aiModel.doEmbed({
    values: [...texts],
    abortSignal,
    ...(providerOptions && { providerOptions }),
  });
  const vectors = inOrder(embeddings, response?.body, model.spec).map((numbers) => Float32Array.from(numbers));
  const tokens = chargedTokens(usage?.tokens, texts, counter);
  const rateLimit = rateLimitOf((name) => response?.headers?.[name]);
  return { vectors, tokens, ...(rateLimit && { rateLimit }) };
}

/** The AI SDK leaves the `index` of OpenAI's answers aside: where the raw answer has it, vectors are put in its order. */
function inOrder(embeddings: number[][], body: unknown, spec: string): number[][] {
  const data = typeof body === 'object' && body !== null && 'data' in body ? body.data : undefined;
  if (!Array.isArray(data) || data.length !== embeddings.length) return embeddings;
  const items = embeddings.map((embedding, i) => ({ index: indexOf(data[i]), embedding }));
  return inIndexOrder(items, spec).map(({ embedding }) => embedding);
}

function indexOf(item: unknown): number | undefined {
  const index = typeof item === 'object' && item !== null && 'index' in item ? item.index : undefined;
  return typeof index === 'number' ? index : undefined;
}

/** JSON with the keys of every object in alphabetical order. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
