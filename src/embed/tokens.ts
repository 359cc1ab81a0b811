/**
 * Estimate of the tokens of a text without a tokeniser, on the high side: ASCII counts 1 token per 4 bytes (English has
 * about 4.2 under cl100k), every further byte of UTF-8 half a token (1.25 per CJK character, 0.75 per Cyrillic letter).
 */
export function estimateTokens(text: string): number {
  const bytes = Buffer.byteLength(text, 'utf8');
  return Math.max(1, Math.ceil((2 * bytes - text.length) / 4));
}
