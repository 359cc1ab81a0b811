import { Tokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { longestFitting } from '../fit.js';
import { createWordTokens, isBreak, type TokenIds } from './static-tokens.js';

/** The part of the library that we use; its own types do not resolve under NodeNext. */
interface HuggingFaceTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

/** `tokenizer.json` and `tokenizer_config.json`, parsed. */
export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly config: object;
}

/** A text's token ids as the model takes them, special tokens included, `maxTokens` of them at most. */
export type Encode = (text: string) => number[];

/** UTF-16 units beyond which a run without a space is cut when tokens are only counted. */
const COUNTED_WORD = 256;

const bertSchema = z.object({
  normalizer: z.object({ type: z.literal('BertNormalizer') }),
  pre_tokenizer: z.object({ type: z.literal('BertPreTokenizer') }),
  model: z.object({ type: z.literal('WordPiece') }),
});

/**
 * A longer text is cut before its closing special tokens, as the reference implementation does. The time for a text is
 * bounded by `maxTokens`, not by its length, unless it has hardly any spaces.
 */
export function createEncode({ tokenizer, config }: TokenizerFiles, maxTokens: number): Encode {
  const library: HuggingFaceTokenizer = new Tokenizer(tokenizer, config);
  const { before, after } = specialTokens(library);
  const room = Math.max(1, maxTokens - before.length - after.length);
  const head = bertSchema.safeParse(tokenizer).success
    ? wordByWord(createWordTokens(tokenizer, []), room)
    : piece(library, room);
  return (text) => [...before, ...head(text), ...after];
}

/**
 * Counts the tokens of a text, `maxTokens` at most: words are tokenised one by one and remembered, which is exact for
 * BERT's tokenisers and close for others.
 * @param extra tokens that every text has besides its own
 */
export function createCount({ tokenizer }: TokenizerFiles, maxTokens: number, extra: number): (text: string) => number {
  const tokensOf = createWordTokens(tokenizer, []);
  return (text) => {
    let tokens = extra;
    forEachWord(text, COUNTED_WORD, (word) => {
      tokens += tokensOf(word).length;
      return tokens < maxTokens;
    });
    return Math.max(1, Math.min(tokens, maxTokens));
  };
}

/**
 * How much of a text has at most so many tokens, `EmbeddingModel.fit`: exact, whatever the tokeniser.
 * @param extra tokens that every text has besides its own
 */
export function createFit(
  { tokenizer, config }: TokenizerFiles,
  extra: number,
): (text: string, maxTokens: number) => number {
  if (!bertSchema.safeParse(tokenizer).success) {
    const library: HuggingFaceTokenizer = new Tokenizer(tokenizer, config);
    const count = (text: string) => library.encode(text, { add_special_tokens: false }).ids.length;
    return (text, maxTokens) => longestFitting(text, maxTokens - extra, count);
  }
  const tokensOf = createWordTokens(tokenizer, []);
  return (text, maxTokens) => {
    let left = maxTokens - extra;
    let fitting = text.length;
    forEachWord(text, COUNTED_WORD, (word, start) => {
      const tokens = tokensOf(word).length;
      if (tokens > left) fitting = start + longestFitting(word, left, (beginning) => tokensOf(beginning).length);
      left -= tokens;
      return fitting === text.length;
    });
    return fitting;
  };
}

/** What the tokeniser puts around a text. */
function specialTokens(library: HuggingFaceTokenizer): { before: number[]; after: number[] } {
  const bare = library.encode('a', { add_special_tokens: false }).ids;
  const dressed = library.encode('a', { add_special_tokens: true }).ids;
  const at = dressed.findIndex((_, i) => bare.every((id, j) => dressed[i + j] === id));
  return { before: dressed.slice(0, at), after: dressed.slice(at + bare.length) };
}

/** Exact for BERT, whose tokens never reach across a space; see static-tokens. */
function wordByWord(tokensOf: TokenIds, room: number): Encode {
  return (text) => {
    const ids: number[] = [];
    forEachWord(text, 16 * room, (word) => {
      for (const id of tokensOf(word)) if (ids.length < room) ids.push(id);
      return ids.length < room;
    });
    return ids;
  };
}

/** Tokenises so much of the beginning that what comes after cannot change the tokens that are kept. */
function piece(library: HuggingFaceTokenizer, room: number): Encode {
  return (text) => {
    for (let length = 8 * room; ; length *= 2) {
      const { ids } = library.encode(text.slice(0, length), { add_special_tokens: false });
      if (length >= text.length || ids.length >= 2 * room) return ids.slice(0, room);
    }
  };
}

/**
 * Calls `each` with run after run of text between spaces, none longer than `longest`, and where it starts, until it
 * returns false.
 */
function forEachWord(text: string, longest: number, each: (word: string, start: number) => boolean): void {
  let start = 0;
  for (let i = 0; i <= text.length; i++) {
    const ended = i === text.length || isBreak(text.charCodeAt(i));
    if (!ended && i - start < longest) continue;
    if (i > start && !each(text.slice(start, i), start)) return;
    start = ended ? i + 1 : i;
  }
}
