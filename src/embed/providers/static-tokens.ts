import { Tokenizer } from '@huggingface/tokenizers';

/** The part of the library that we use; its own types do not resolve under NodeNext. */
interface HuggingFaceTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

/** Token ids of a run of text without the ids to skip. */
export type TokenIds = (text: string) => readonly number[];

const MAX_CACHED_WORDS = 50_000;
const MAX_CACHED_LENGTH = 32;

/**
 * A tokeniser for text between spaces, remembering the words that it saw (the library needs about 10 µs a word, most
 * words of a corpus are seen again and again). Exact for a BERT tokeniser: nothing of its normalising, splitting and
 * WordPiece looks across a space, tab or line end, and no special token contains one.
 */
export function createWordTokens(tokenizerJson: object, skip: readonly number[]): TokenIds {
  const tokenizer: HuggingFaceTokenizer = new Tokenizer(tokenizerJson, {});
  const skipped = new Set(skip);
  const known = new Map<string, readonly number[]>(); // emptied when full: simpler than an LRU, and as fast here
  return (word) => {
    const found = known.get(word);
    if (found !== undefined) return found;
    const ids = tokenizer.encode(word, { add_special_tokens: false }).ids.filter((id) => !skipped.has(id));
    if (word.length <= MAX_CACHED_LENGTH) {
      if (known.size >= MAX_CACHED_WORDS) known.clear();
      known.set(word, ids);
    }
    return ids;
  };
}

/** Space, tab, line feed or carriage return: the characters that BERT's clean-up makes a space (others it deletes). */
export function isBreak(unit: number): boolean {
  return unit === 32 || unit === 10 || unit === 13 || unit === 9;
}

/** A common Han character or one of + , - and /: always a token of its own, so a text may be cut before it. */
export function standsAlone(unit: number): boolean {
  return (unit >= 0x4e00 && unit <= 0x9fff) || (unit >= 43 && unit <= 47 && unit !== 46);
}
