import type { EmbeddingModel } from './port.js';
import type { Fit } from './split.js';

/** What is used of a model to tell how long a text is. */
export type Ruler = Pick<EmbeddingModel, 'countTokens' | 'fit' | 'limits'>;

/** Below this part of the limit a count is believed that is only close to the truth. */
const SURELY_SHORT = 0.8;
/** From so many times the limit on an estimate is believed; nearer to it, only the provider can tell. */
const SURELY_LONG = 1.5;
/** Part of the limit that a text is cut to where its tokens are only estimated. */
const MARGIN = 0.9;
/** Units that are looked at first for each token that fits. */
const UNITS_PER_TOKEN = 8;

/** Whether a text is longer than the model takes, as far as that can be told without asking the provider. */
export function isTooLong(model: Ruler, text: string): boolean {
  const { maxTokensPerInput } = model.limits;
  const counted = model.countTokens(text);
  if (!model.fit) return counted > maxTokensPerInput * SURELY_LONG;
  return counted > maxTokensPerInput * SURELY_SHORT && model.fit(text, maxTokensPerInput) < text.length;
}

/** Tokens of a text that is too long; about, where counting stops at the limit or is an estimate. */
export function aboutTokens(model: Ruler, text: string): number {
  const { maxTokensPerInput } = model.limits;
  const counted = model.countTokens(text);
  if (counted > maxTokensPerInput || !model.fit) return counted;
  const fitting = model.fit(text, maxTokensPerInput);
  return fitting >= text.length || fitting === 0 ? counted : Math.ceil((maxTokensPerInput * text.length) / fitting);
}

/** How much of a text to send at most: exactly so many tokens where the model has a tokeniser, else somewhat less. */
export function fitting(model: Ruler, maxTokens: number): Fit {
  const { fit: exactly } = model;
  if (exactly) return (text) => exactly(text, maxTokens);
  const most = Math.max(1, Math.floor(maxTokens * MARGIN));
  return (text) => longestFitting(text, most, (beginning) => model.countTokens(beginning));
}

/**
 * Units of the longest beginning that has at most `maxTokens` by `count`, which must hardly fall as a text grows; 0 where
 * nothing fits. What it returns was counted, whatever `count` does.
 */
export function longestFitting(text: string, maxTokens: number, count: (beginning: string) => number): number {
  let short = 0;
  let long = Math.min(text.length, Math.max(1, maxTokens * UNITS_PER_TOKEN));
  while (count(text.slice(0, long)) <= maxTokens) {
    short = long;
    if (long === text.length) return long;
    long = Math.min(text.length, long * 2);
  }
  while (long - short > 1) {
    const middle = (short + long) >> 1;
    if (count(text.slice(0, middle)) <= maxTokens) short = middle;
    else long = middle;
  }
  return short;
}
