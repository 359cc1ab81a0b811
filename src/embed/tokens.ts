import { longestFitting } from './fit.js';

/**
 * Estimate of the tokens of a text without a tokeniser, on the high side: ASCII counts 1 token per 4 bytes (English has
 * about 4.2 under cl100k), every further byte of UTF-8 half a token (1.25 per CJK character, 0.75 per Cyrillic letter).
 */
export function estimateTokens(text: string): number {
  const bytes = Buffer.byteLength(text, 'utf8');
  return Math.max(1, Math.ceil((2 * bytes - text.length) / 4));
}

/** What begins and ends a text, or is put before it by the server. */
const MOST_AROUND = 8;

/**
 * What a provider charges for a text at most, given what the model counted: that, where it counts exactly. Else a token
 * per byte, since no tokeniser makes more: some four times what English comes to.
 */
export function mostTokensOf(model: { readonly countsExactly?: boolean }, text: string, counted: number): number {
  return model.countsExactly ? counted : Math.max(counted, Buffer.byteLength(text, 'utf8') + MOST_AROUND);
}

/** Counts tokens, and may be told how many the provider counted. */
export interface TokenCounter {
  /** The count is what the provider charges, not an estimate. */
  readonly exact: boolean;
  /** At least 1. */
  count(text: string): number;
  /** Takes the provider's figure for these texts, sent together, as a lesson. */
  learn(texts: readonly string[], charged: number): void;
  /** `EmbeddingModel.fit`, where counts are exact. */
  fit?(text: string, maxTokens: number): number;
}

/** More than any request has: a server counts something else. */
const IMPLAUSIBLE_TOKENS = 1e12;

/**
 * What the provider charges for texts that were sent together: its own figure, in whole tokens, from which the counter
 * learns; where it names none, or nothing, what the counter makes of them.
 */
export function chargedTokens(named: number | undefined, texts: readonly string[], counter: TokenCounter): number {
  if (named !== undefined && named > 0 && named < IMPLAUSIBLE_TOKENS) {
    counter.learn(texts, named);
    return Math.ceil(named);
  }
  return texts.reduce((sum, text) => sum + counter.count(text), 0);
}

/** Share of each new figure in the ratio: some ten requests outweigh what was learned before. */
const WEIGHT = 0.2;
/** A figure further off is a server that counts something else, or nothing. */
const RATIO = { least: 0.3, most: 4 };

/** The estimate times a ratio learned from the provider: an exponential moving average of charged by estimated tokens. */
export function learningCounter(): TokenCounter {
  let ratio: number | undefined;
  return {
    exact: false,
    count: (text) => Math.max(1, Math.ceil(estimateTokens(text) * (ratio ?? 1))),
    learn(texts, charged) {
      if (!(charged > 0) || texts.length === 0) return;
      const estimated = texts.reduce((sum, text) => sum + estimateTokens(text), 0);
      const seen = Math.min(RATIO.most, Math.max(RATIO.least, charged / estimated));
      ratio = ratio === undefined ? seen : ratio + WEIGHT * (seen - ratio);
    },
  };
}

/** OpenAI's own models, all of which use cl100k_base (https://github.com/openai/tiktoken, model.py). */
const CL100K_MODELS = new Set(['text-embedding-3-small', 'text-embedding-3-large', 'text-embedding-ada-002']);

/** The counter for a model that is called by this name: exact for OpenAI's own, else one that learns. */
export async function openCounter(name: string): Promise<TokenCounter> {
  if (!CL100K_MODELS.has(name)) return learningCounter();
  // Takes 0.1 s and some 60 MB.
  const { countTokens } = await import('gpt-tokenizer/encoding/cl100k_base');
  const plain = { disallowedSpecial: new Set<string>() }; // A text that says <|endoftext|> must not throw.
  return {
    exact: true,
    count: (text) =>
      Math.max(
        1,
        countInSlices(text, (slice) => countTokens(slice, plain)),
      ),
    learn: () => {},
    fit: (text, maxTokens) => fitSlices(text, maxTokens, (slice) => countTokens(slice, plain)),
  };
}

/** UTF-16 units counted at once: merging takes the square of a word's length (4 s for 100,000 letters, 0.4 ms for 1,000). */
const SLICE = 1024;
/** Beyond 8 times what a model takes, the estimate says enough. */
const COUNTED = 262_144;

/** Slices end before a space where there is one, since no token reaches from a word into the space after it. */
function countInSlices(text: string, count: (slice: string) => number): number {
  if (text.length > COUNTED) return estimateTokens(text);
  let tokens = 0;
  for (let from = 0; from < text.length; ) {
    const to = sliceEnd(text, from);
    tokens += count(text.slice(from, to));
    from = to;
  }
  return tokens;
}

/** Slice by slice, as they are counted; the last one in part. */
function fitSlices(text: string, maxTokens: number, count: (slice: string) => number): number {
  let left = maxTokens;
  for (let from = 0; from < text.length; ) {
    const to = sliceEnd(text, from);
    const slice = text.slice(from, to);
    const tokens = count(slice);
    if (tokens > left) return from + longestFitting(slice, left, count);
    left -= tokens;
    from = to;
  }
  return text.length;
}

function sliceEnd(text: string, from: number): number {
  const to = Math.min(text.length, from + SLICE);
  if (to === text.length) return to;
  const space = text.lastIndexOf(' ', to);
  return space > from ? space : to;
}
