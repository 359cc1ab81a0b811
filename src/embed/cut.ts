import type { LongText, LongTexts } from '../catalog/long-texts.js';
import { fitting, isTooLong, type Ruler } from './fit.js';
import { splitText, truncateText } from './split.js';

/** What is sent in place of a text, each part of so many counted tokens at most: its beginning, or all of it in pieces. */
export function* partsOf(model: Ruler, text: string, how: LongText['how'], maxTokens: number): Generator<string> {
  const fit = fitting(model, maxTokens);
  // Blanks say nothing, and a provider may refuse what has nothing else; so with pieces below.
  if (how === 'truncate') yield truncateText(text.trimStart() || text, fit);
  else yield* splitText(text, fit);
}

/** Those of the parts that say something; all of them where none does. */
export function tellingOf(parts: string[]): string[] {
  const telling = parts.filter((part) => /\S/.test(part));
  return telling.length > 0 ? telling : parts;
}

/**
 * What is sent in place of a text that is longer than the model takes, as far as that can be told without asking it:
 * nothing where it is refused. Undefined for any other text.
 */
export function cutOf(model: Ruler, text: string, longTexts: LongTexts): string[] | undefined {
  if (!isTooLong(model, text)) return undefined;
  return longTexts === 'refuse' ? [] : tellingOf([...partsOf(model, text, longTexts, model.limits.maxTokensPerInput)]);
}
