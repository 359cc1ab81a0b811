/**
 * Cuts texts where a reader would: after a paragraph, a sentence, a word, a character. Lengths and positions are in
 * UTF-16 units; no cut goes through a surrogate pair.
 */

/** Units of the longest beginning of a text that is short enough; the text's length where it is so as a whole. */
export type Fit = (text: string) => number;

/** A piece ends at the best border in its last half, so that no border makes pieces short. */
const LEAST_SHARE = 0.5;
/** Units looked at for the borders of words and of characters, before and behind the longest possible piece. */
const WORD_WINDOW = { before: 512, behind: 64 };
const CHARACTER_WINDOW = { before: 64, behind: 32 };

// Not of the process's own locale: the pieces of a text are the same everywhere.
const sentences = new Intl.Segmenter('en', { granularity: 'sentence' });
const words = new Intl.Segmenter('en', { granularity: 'word' });
const characters = new Intl.Segmenter('en', { granularity: 'grapheme' });

/**
 * The pieces of a text, in order; joined they are the text. Each is short enough by `longest`, except one of a single
 * character that is not, by itself. An empty text has none.
 */
export function* splitText(text: string, longest: Fit): Generator<string> {
  for (let from = 0; from < text.length; ) {
    const rest = text.slice(from);
    const piece = rest.slice(0, pieceLength(rest, longest, bestBorder));
    yield piece;
    from += piece.length;
  }
}

/** The longest beginning of a text that is short enough by `longest`, whole characters only. */
export function truncateText(text: string, longest: Fit): string {
  return text.slice(0, pieceLength(text, longest, characterBorder));
}

function pieceLength(text: string, longest: Fit, border: (text: string, most: number) => number): number {
  let most = Math.min(longest(text), text.length);
  if (most >= text.length) return text.length;
  // A shorter beginning may have more tokens: half a word is often two of them.
  for (;;) {
    const length = border(text, most);
    if (length <= 0) return firstCharacter(text);
    const fitting = longest(text.slice(0, length));
    if (fitting >= length) return length;
    most = fitting;
  }
}

/** The best place to cut at `most` or before; 0 where there is none. */
function bestBorder(text: string, most: number): number {
  const least = Math.floor(most * LEAST_SHARE);
  const place =
    paragraphBorder(text, least, most) ?? sentenceBorder(text, least, most) ?? wordBorder(text, least, most);
  return place === undefined ? characterBorder(text, most) : wholePairs(text, place);
}

function paragraphBorder(text: string, least: number, most: number): number | undefined {
  const last = [...text.slice(least, most).matchAll(/\n[ \t\r]*\n\s*/g)].at(-1);
  return last && least + last.index + last[0].length;
}

/** Line ends count. The last sentence of the window may go on behind it: it ends before that one. */
function sentenceBorder(text: string, least: number, most: number): number | undefined {
  const start = wholePairs(text, least);
  const last = [...sentences.segment(text.slice(start, most))].at(-1);
  return last && last.index > 0 ? start + last.index : undefined;
}

function wordBorder(text: string, least: number, most: number): number | undefined {
  return lastBorder(words, text, most, {
    before: Math.min(WORD_WINDOW.before, most - least),
    behind: WORD_WINDOW.behind,
  });
}

function characterBorder(text: string, most: number): number {
  return wholePairs(text, lastBorder(characters, text, most, CHARACTER_WINDOW) ?? most);
}

function lastBorder(
  segmenter: Intl.Segmenter,
  text: string,
  most: number,
  window: { readonly before: number; readonly behind: number },
): number | undefined {
  const start = wholePairs(text, Math.max(0, most - window.before));
  let found: number | undefined;
  for (const { index } of segmenter.segment(text.slice(start, most + window.behind))) {
    if (start + index > most) break;
    if (index > 0) found = start + index;
  }
  return found;
}

/** The same place, or the one before it where it is within a surrogate pair. */
function wholePairs(text: string, place: number): number {
  return isHigh(text.charCodeAt(place - 1)) && isLow(text.charCodeAt(place)) ? place - 1 : place;
}

function firstCharacter(text: string): number {
  return isHigh(text.charCodeAt(0)) && isLow(text.charCodeAt(1)) ? 2 : 1;
}

function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
