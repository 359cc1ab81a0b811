import { embedLong } from '../../embed/embed-long.js';
import { type EmbeddingModel, EmbedError, type EmbedPurpose } from '../../embed/port.js';
import type { EmbedContext } from '../gates/context.js';

/** Vectors in the order of the texts, each of the model's dimensions; undefined of a text that the model rejects, or that is too long. */
export interface Embedded {
  readonly vectors: (Float32Array | undefined)[];
  readonly tokens: number;
}

/**
 * Embeds texts as the source has them embedded, within the provider's limits and the day's money. Nothing is stored.
 * Throws EmbedError where the provider could not answer for all of them.
 */
export async function embedSample(
  { source, budget, signal }: EmbedContext,
  model: EmbeddingModel,
  texts: readonly string[],
  purpose: EmbedPurpose,
): Promise<Embedded> {
  if (texts.length === 0) return { vectors: [], tokens: 0 };
  // Charged by the gate.
  const gate = budget.for(model, { source: source.name, purpose: 'text' });
  const longTexts = purpose === 'document' ? source.longTexts : 'truncate';
  const { outcomes, tokens } = await embedLong(model, texts, { purpose, signal, gate, priority: 'bulk', longTexts });
  const vectors = outcomes.map((outcome) => {
    if ('delayed' in outcome) {
      throw new EmbedError(outcome.failure, `${model.spec} did not answer for all texts: try again later`, {
        retryAfterMs: outcome.delayed,
      });
    }
    return 'vector' in outcome ? outcome.vector : undefined;
  });
  return { vectors, tokens };
}
