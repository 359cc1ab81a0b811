import { microsOf, recordSpend } from '../../budget/spend.js';
import { embedAll } from '../../embed/embed-all.js';
import { type EmbeddingModel, EmbedError, type EmbedPurpose } from '../../embed/port.js';
import type { EmbedContext } from '../gates/context.js';

/** Vectors in the order of the texts, each of the model's dimensions; undefined of a text that the model rejects. */
export interface Embedded {
  readonly vectors: (Float32Array | undefined)[];
  readonly tokens: number;
}

/**
 * Embeds texts within the provider's limits and the day's money, and records what was charged. Nothing is stored.
 * Throws EmbedError where the provider could not answer for all of them.
 */
export async function embedSample(
  { db, source, budget, signal }: EmbedContext,
  model: EmbeddingModel,
  texts: readonly string[],
  purpose: EmbedPurpose,
): Promise<Embedded> {
  if (texts.length === 0) return { vectors: [], tokens: 0 };
  const gate = budget.for(model);
  const { outcomes, tokens } = await embedAll(model, texts, { purpose, signal, gate, priority: 'bulk' });
  if (tokens > 0) {
    const { fingerprint } = model;
    const micros = microsOf(tokens, budget.price(model.spec));
    const embedded = outcomes.filter((outcome) => 'vector' in outcome).length;
    await recordSpend(db, { source: source.name, fingerprint, texts: embedded, tokens, micros });
  }
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
