import { setTimeout as sleep } from 'node:timers/promises';
import { embedLong, type LongOutcome, type PieceCache } from '../../embed/embed-long.js';
import { type EmbeddingModel, EmbedError, type EmbedPurpose } from '../../embed/port.js';
import type { EmbedContext } from '../gates/context.js';

/** Vectors in the order of the texts, each of the model's dimensions; undefined of a text that the model rejects, or that is too long. */
export interface Embedded {
  readonly vectors: (Float32Array | undefined)[];
  readonly tokens: number;
}

/** How long a provider's pauses are waited for in all: limits are counted by the minute. */
const MOST_WAIT_MS = 120_000;
/** Before the next try; doubles while nothing comes. Where the provider names no time, so many tries are enough. */
const FIRST_WAIT_MS = 250;
const MOST_TRIES = 4;

/**
 * Embeds texts as the source has them embedded, within the provider's limits and the day's money. Nothing is stored. A
 * provider that asks for a pause is waited for, and only what is missing yet is sent again: what came is paid for.
 * Throws EmbedError where the provider could not answer for all of them, and the signal's reason.
 */
export async function embedSample(
  { source, budget, signal }: EmbedContext,
  model: EmbeddingModel,
  texts: readonly string[],
  purpose: EmbedPurpose,
): Promise<Embedded> {
  // Charged by the gate.
  const gate = budget.for(model, { source: source.name, purpose: 'text' });
  const longTexts = purpose === 'document' ? source.longTexts : 'truncate';
  const options = { purpose, signal, gate, priority: 'bulk' as const, longTexts, pieces: keptPieces() };
  const done = new Map<string, Float32Array | undefined>();
  let tokens = 0;
  let waitedMs = 0;
  for (let tries = 1; ; tries++) {
    const missing = [...new Set(texts)].filter((text) => !done.has(text));
    if (missing.length === 0) break;
    const answer = await embedLong(model, missing, options);
    tokens += answer.tokens;
    let delayed: Extract<LongOutcome, { delayed: number }> | undefined;
    for (const [i, outcome] of answer.outcomes.entries()) {
      if ('delayed' in outcome) delayed = outcome;
      else done.set(missing[i] ?? '', 'vector' in outcome ? outcome.vector : undefined);
    }
    if (!delayed) break;
    if (answer.tokens > 0) tries = 1;
    const waitMs = Math.max(delayed.delayed, FIRST_WAIT_MS * 2 ** (tries - 1));
    waitedMs += waitMs;
    if (waitedMs > MOST_WAIT_MS || (delayed.delayed === 0 && tries >= MOST_TRIES)) {
      throw new EmbedError(delayed.failure, `${model.spec} did not answer for all texts: try again later`, {
        retryAfterMs: delayed.delayed,
      });
    }
    await sleep(waitMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }
  return { vectors: texts.map((text) => done.get(text)), tokens };
}

/** Vectors of the pieces of texts whose other pieces are missing yet. */
function keptPieces(): PieceCache {
  const kept = new Map<string, Float32Array>();
  return {
    async read(pieces) {
      const paid = pieces.flatMap(({ piece }) => {
        const vector = kept.get(piece);
        return vector ? [[piece, vector] as const] : [];
      });
      return new Map(paid);
    },
    async write(pieces) {
      for (const { piece, vector } of pieces) kept.set(piece, vector);
    },
  };
}
