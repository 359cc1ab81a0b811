import { type EmbeddingModel, EmbedError, type EmbedLimits, type EmbedResult } from './port.js';

/**
 * The same model, with every response checked: as many vectors as texts, each of the model's dimensions, finite and not
 * all zero. Throws EmbedError `bad_response` otherwise. No texts make no request. Where the provider names a lower limit
 * of one text's tokens than was known, it is the limit from then on.
 */
export function withChecks(model: EmbeddingModel): EmbeddingModel {
  const limits: { -readonly [name in keyof EmbedLimits]: EmbedLimits[name] } = { ...model.limits };
  const learn = (error: unknown) => {
    const named = error instanceof EmbedError ? error.details.tooLong?.maxTokens : undefined;
    if (named !== undefined && named < limits.maxTokensPerInput) limits.maxTokensPerInput = named;
    return error;
  };
  return {
    spec: model.spec,
    fingerprint: model.fingerprint,
    dimensions: model.dimensions,
    limits,
    account: model.account,
    countTokens: (text) => model.countTokens(text),
    ...(model.fit && { fit: model.fit.bind(model) }),
    ...(model.countsExactly && { countsExactly: true }),
    close: () => model.close(),
    async embed(texts, options) {
      options.signal?.throwIfAborted();
      if (texts.length === 0) return { vectors: [], tokens: 0 };
      const result = await model.embed(texts, options).catch((error: unknown) => {
        throw learn(error);
      });
      checkResult(result, texts.length, model);
      return result;
    },
  };
}

/** Throws EmbedError `bad_response` unless there are `count` usable vectors of the model's dimensions. */
export function checkResult(
  result: EmbedResult,
  count: number,
  model: Pick<EmbeddingModel, 'spec' | 'dimensions'>,
): void {
  const { vectors } = result;
  const fail = (what: string) => new EmbedError('bad_response', `${model.spec} answered with ${what}`);
  if (vectors.length !== count) throw fail(`${vectors.length} vectors for ${count} texts`);
  for (const vector of vectors) {
    if (vector.length !== model.dimensions) {
      throw fail(`${vector.length} dimensions instead of ${model.dimensions}: name the dimensions that it has`);
    }
    const squares = sumOfSquares(vector);
    if (!Number.isFinite(squares)) throw fail('a vector that holds NaN or Infinity');
    if (squares === 0) throw fail('a vector that is all zero');
  }
}

/**
 * Puts items that name their position in that order; items that name none stay as they came.
 * Throws EmbedError `bad_response` when positions are missing, doubled or out of range.
 */
export function inIndexOrder<T extends { readonly index?: number | undefined }>(
  items: readonly T[],
  spec: string,
): T[] {
  if (items.every((item) => item.index === undefined)) return [...items];
  const ordered = new Map<number, T>();
  for (const item of items) {
    const { index } = item;
    const fits = index !== undefined && Number.isInteger(index) && index >= 0 && index < items.length;
    if (!fits || ordered.has(index)) {
      throw new EmbedError('bad_response', `${spec} answered with vectors whose positions make no sense`);
    }
    ordered.set(index, item);
  }
  return [...ordered.entries()].sort(([a], [b]) => a - b).map(([, item]) => item);
}

/** Finite exactly if every component is: the square of a float32 cannot overflow a double. */
function sumOfSquares(vector: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) {
    const x = vector[i] as number;
    sum += x * x;
  }
  return sum;
}
