import { z } from 'zod';
import type { ModelSpec } from '../../catalog/model.js';
import { inIndexOrder } from '../check.js';
import { EmbedError, type EmbedResult } from '../port.js';
import { chargedTokens, type TokenCounter } from '../tokens.js';

/** Loose on purpose: compatible servers leave things out. The components of a float array are checked later. */
const answerSchema = z.object({
  data: z.array(
    z.object({
      index: z.number().optional(),
      embedding: z.union([z.string(), z.custom<readonly unknown[]>(Array.isArray)]),
    }),
  ),
  usage: z.object({ total_tokens: z.number() }).nullish().catch(undefined),
});

/**
 * Reads the answer to POST /embeddings: vectors in the order of the texts, from base64 or, for servers that ignore
 * `encoding_format`, from arrays of numbers. The counter learns from the usage, or stands in where there is none.
 * Throws EmbedError `bad_response`.
 */
export function readAnswer(
  answer: unknown,
  model: ModelSpec,
  texts: readonly string[],
  counter: TokenCounter,
): EmbedResult {
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) throw new EmbedError('bad_response', `${model.spec} did not answer with a list of embeddings`);
  const { data, usage } = parsed.data;
  const vectors = inIndexOrder(data, model.spec).map(({ embedding }) => {
    return typeof embedding === 'string' ? fromBase64(embedding, model.spec) : fromNumbers(embedding);
  });
  return { vectors, tokens: chargedTokens(usage?.total_tokens, texts, counter) };
}

/** Little-endian float32, as OpenAI sends them, decoded straight into the vector. */
function fromBase64(text: string, spec: string): Float32Array {
  const length = Buffer.byteLength(text, 'base64');
  const vector = new Float32Array(length >> 2);
  const written = Buffer.from(vector.buffer).write(text, 'base64');
  if (length % 4 !== 0 || written !== length) {
    throw new EmbedError('bad_response', `${spec} answered with base64 that is not a list of float32`);
  }
  return vector;
}

/** What is not a number becomes NaN, which the check of the vectors refuses. */
function fromNumbers(numbers: readonly unknown[]): Float32Array {
  return Float32Array.from(numbers, (x) => (typeof x === 'number' ? x : Number.NaN));
}
