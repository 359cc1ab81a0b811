/**
 * What becomes of a text that is longer than the model takes: a failure row (`refuse`), a vector of its beginning
 * (`truncate`), or the mean of the vectors of its pieces, weighted by their tokens (`chunk`).
 */
export const LONG_TEXTS = ['refuse', 'truncate', 'chunk'] as const;
export type LongTexts = (typeof LONG_TEXTS)[number];

/** Nothing is lost unsaid: the failure row names the choice. The other two make a vector that is less than its text. */
export const DEFAULT_LONG_TEXTS: LongTexts = 'refuse';

/** Code of the failure of a text that is too long for its model. */
export const TEXT_TOO_LONG = 'text_too_long';

/** How a vector was made of a text that was too long. */
export interface LongText {
  readonly how: Exclude<LongTexts, 'refuse'>;
  /** Of the whole text; about, unless the model's tokeniser is at hand. */
  readonly tokens: number;
  /** Of one text, that the model takes. */
  readonly maxTokens: number;
  /** Texts that were embedded for it. */
  readonly pieces: number;
}

/** Why a value is no such choice, for callers without types; undefined where it is one. */
export function longTextsRefusal(value: unknown): string | undefined {
  if (LONG_TEXTS.some((choice) => choice === value)) return undefined;
  return `its choice for long texts is ${JSON.stringify(value)}: it must be ${LONG_TEXTS.slice(0, -1).join(', ')} or ${LONG_TEXTS.at(-1)}.`;
}
