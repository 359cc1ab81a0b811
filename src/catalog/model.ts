import { createHash } from 'node:crypto';
import { FreshvecError } from '../db/errors.js';

export type ModelProvider = 'static' | 'openai' | 'onnx' | 'ai' | 'fake';

/** A model as the user names it: `provider/name@dimensions`. */
export interface ModelSpec {
  readonly provider: ModelProvider;
  /** May hold slashes: `openai/BAAI/bge-m3@1024` has the name `BAAI/bge-m3`. */
  readonly name: string;
  /** Length of each vector. */
  readonly dimensions: number;
  /** As written. */
  readonly spec: string;
}

/** What else, beside the spec, decides what the vectors mean. */
export interface ModelTraits {
  /** Version of the weights, or '' where the provider names none. */
  readonly revision: string;
  /** Put before each document. */
  readonly prefix?: string;
  /** Put before each query. */
  readonly queryPrefix?: string;
  /** Whether freshvec itself scales the vectors to length 1. */
  readonly normalised: boolean;
  /** Of the weights, where one revision comes in several. */
  readonly dtype?: string;
  /** How a text's vector comes from those of its tokens, where that is freshvec's to choose. */
  readonly pooling?: string;
  /** Where freshvec cuts longer texts itself. */
  readonly maxTokens?: number;
}

/** pgvector's limit for the type `vector`; indexes allow less, which `source add` checks. */
export const MAX_DIMENSIONS = 16_000;

/** The dimensions that each bundled model comes in. */
const STATIC_MODELS: Readonly<Record<string, readonly number[]>> = { mini: [128, 256] };

const EXISTING = `what exists:
  static/mini@256, static/mini@128         bundled, runs in this process, needs no key
  openai/NAME@DIMENSIONS                   OpenAI or any compatible server (OPENAI_API_KEY, OPENAI_BASE_URL), for example
                                           openai/text-embedding-3-small@1536, openai/BAAI/bge-m3@1024
  onnx/NAME@DIMENSIONS                     a sentence-transformers model in ONNX format, runs in this process, needs no key
                                           (FRESHVEC_ONNX_PATH), for example onnx/Xenova/all-MiniLM-L6-v2@384
  ai/NAME@DIMENSIONS                       a model of the AI SDK, given to createClient({ models: [fromAiSdk(…)] })
  fake/NAME@DIMENSIONS                     pseudo-random vectors for tests and benches`;

const SHAPE = /^(static|openai|onnx|ai|fake)\/([^\s#]+)@([1-9]\d{0,5})$/;

/**
 * Reads `provider/name@dimensions`; dimensions are 1 to 16,000.
 * Throws FreshvecError `model_unknown`, whose message lists what exists.
 */
export function parseModelSpec(spec: string): ModelSpec {
  const [, provider, name, digits] = SHAPE.exec(spec) ?? [];
  if (!isProvider(provider) || name === undefined || digits === undefined) {
    throw unknownModel(spec, 'a model is written provider/name@dimensions');
  }
  const dimensions = Number(digits);
  if (dimensions > MAX_DIMENSIONS) throw unknownModel(spec, `a vector has at most ${MAX_DIMENSIONS} dimensions`);
  if (provider === 'static') checkStatic(spec, name, dimensions);
  return { provider, name, dimensions, spec };
}

/**
 * `provider/name@dimensions#hash`, the hash being the first 8 hex digits of the sha256 of everything that changes what
 * the vectors mean. Two spaces with different fingerprints are never compared.
 */
export function fingerprint(model: ModelSpec, traits: ModelTraits): string {
  const { provider, name, dimensions } = model;
  const { revision, prefix = '', queryPrefix, normalised, dtype, pooling, maxTokens } = traits;
  // Canonical: the keys stand in alphabetical order, those that are undefined are left out. Do not reorder or default
  // them, stored fingerprints depend on it.
  const canonical = JSON.stringify({
    dimensions,
    dtype,
    maxTokens,
    name,
    normalised,
    pooling,
    prefix,
    provider,
    queryPrefix,
    revision,
  });
  const hash = createHash('sha256').update(canonical).digest('hex').slice(0, 8);
  return `${provider}/${name}@${dimensions}#${hash}`;
}

function checkStatic(spec: string, name: string, dimensions: number): void {
  const sizes = Object.hasOwn(STATIC_MODELS, name) ? STATIC_MODELS[name] : undefined;
  if (sizes === undefined) throw unknownModel(spec, `no bundled model is called "${name}"`);
  if (!sizes.includes(dimensions)) {
    throw unknownModel(spec, `static/${name} has ${sizes.join(' or ')} dimensions, not ${dimensions}`);
  }
}

function isProvider(provider: string | undefined): provider is ModelProvider {
  return ['static', 'openai', 'onnx', 'ai', 'fake'].includes(provider ?? '');
}

function unknownModel(spec: string, why: string): FreshvecError {
  return new FreshvecError('model_unknown', `unknown model "${spec.slice(0, 200)}": ${why}; ${EXISTING}`);
}
