import fc from 'fast-check';
import { encode } from 'gpt-tokenizer/encoding/cl100k_base';
import { describe, expect, it } from 'vitest';
import { longestFitting } from '../../src/embed/fit.js';
import { weightedMean } from '../../src/embed/mean.js';
import { splitText, truncateText } from '../../src/embed/split.js';
import { estimateTokens, openCounter } from '../../src/embed/tokens.js';

/** Prose, other scripts, emoji, combining marks, blanks, lone halves: whatever a column may hold and more. */
const textArbitrary = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: fc.stringMatching(/^[a-z]{1,12}$/) },
      fc.constantFrom(' ', '. ', '\n', '\n\n', ' \n \t\n', '。', '、', '?! ', '\u00a0'),
      fc.constantFrom('漢字', 'ру́сский', '👩‍👩‍👧‍👦', '🇩🇪🇫🇷', 'e\u0301\u0301', '😀', '𝒳', '\ud83d', '\ude00'),
      fc.string({ unit: 'grapheme', maxLength: 4 }),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
    { maxLength: 120 },
  )
  .map((parts) => parts.join(' '.repeat(parts.length % 2)));

const wellFormed = textArbitrary.map((text) => text.replaceAll(/\p{Surrogate}/gu, ''));

/** In turn: units; bytes; an estimate as of unknown models; one in which half a word has more tokens than the whole. */
const COUNTS: readonly ((text: string) => number)[] = [
  (text) => text.length,
  (text) => Buffer.byteLength(text),
  estimateTokens,
  (text) => text.split(/(?<=\s)/).reduce((sum, word) => sum + (/\s$/.test(word) ? 1 : 3), 0),
];
const countArbitrary = fc.constantFrom(...COUNTS);
const limitArbitrary = fc.integer({ min: 1, max: 60 });

describe('splitText', () => {
  it('gives pieces that join to the text, each within the limit unless it is one character', () => {
    fc.assert(
      fc.property(textArbitrary, countArbitrary, limitArbitrary, (text, count, most) => {
        const pieces = [...splitText(text, (rest) => longestFitting(rest, most, count))];
        expect(pieces.join('')).toBe(text);
        for (const piece of pieces) {
          expect(piece.length).toBeGreaterThan(0);
          if ([...piece].length > 1) expect(count(piece)).toBeLessThanOrEqual(most);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('cuts no surrogate pair', () => {
    fc.assert(
      fc.property(wellFormed, countArbitrary, limitArbitrary, (text, count, most) => {
        for (const piece of splitText(text, (rest) => longestFitting(rest, most, count))) {
          expect(piece).not.toMatch(/\p{Surrogate}/u);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('gives a text that is short enough as it is, and an empty one not at all', () => {
    fc.assert(
      fc.property(textArbitrary, (text) => {
        expect([...splitText(text, (rest) => rest.length)]).toEqual(text === '' ? [] : [text]);
      }),
    );
  });

  const units = (most: number) => (rest: string) => Math.min(most, rest.length);
  it.each([
    ['after a paragraph', 'One two.\n\nThree four. Five', 22, ['One two.\n\nThree four. ', 'Five']],
    [
      'after a paragraph, where it is in the last half',
      'One two.\n\nThree four. Five',
      18,
      ['One two.\n\n', 'Three four. Five'],
    ],
    ['after a sentence', 'One two three. Four five six seven', 20, ['One two three. ', 'Four five six seven']],
    ['after a line', 'one two three\nfour five six seven', 20, ['one two three\n', 'four five six seven']],
    ['after a word', 'one two three four', 11, ['one two ', 'three four']],
    ['before a word that would be cut', 'one twothree', 7, ['one ', 'twothre', 'e']],
    ['within a word where there is nothing else', 'abcdefghij', 4, ['abcd', 'efgh', 'ij']],
    ['not within an emoji of several', '👩‍👩‍👧‍👦👩‍👩‍👧‍👦', 15, ['👩‍👩‍👧‍👦', '👩‍👩‍👧‍👦']],
  ])('cuts %s', (_, text, most, pieces) => {
    expect([...splitText(text, units(most))]).toEqual(pieces);
  });

  it('comes to an end with a text of 2 MB', () => {
    const pieces = [...splitText('Lorem ipsum dolor. '.repeat(100_000), units(2000))];
    expect(pieces.length).toBe(953);
  });
});

describe('truncateText', () => {
  it('keeps a beginning within the limit, whole characters, and no shorter than that asks for', () => {
    fc.assert(
      fc.property(wellFormed, limitArbitrary, (text, most) => {
        const cut = truncateText(text, (rest) => longestFitting(rest, most, (part) => part.length));
        expect(text.startsWith(cut)).toBe(true);
        expect(cut).not.toMatch(/\p{Surrogate}/u);
        if ([...cut].length > 1) expect(cut.length).toBeLessThanOrEqual(most);
        expect(cut === '').toBe(text === '');
        if (cut === text || [...cut].length === 1) return;
        const [next] = new Intl.Segmenter('en').segment(text.slice(cut.length));
        if (/^[ -~]$/.test(next?.segment ?? '')) expect(cut.length).toBe(most);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("the measure of OpenAI's own models", () => {
  it('is a beginning of at most so many tokens, as they are counted, to which no word could be added', async () => {
    const { count, fit: measure } = await openCounter('text-embedding-3-small');
    if (!measure) throw new Error('these models have a tokeniser');
    fc.assert(
      fc.property(wellFormed, limitArbitrary, (text, most) => {
        const length = measure(text, most);
        const beginning = text.slice(0, length);
        if (length > 0) expect(count(beginning)).toBeLessThanOrEqual(most);
        expect(encode(beginning).length).toBeLessThanOrEqual(most);
        if (length < text.length) expect(count(text)).toBeGreaterThan(most);
        else expect(length).toBe(text.length);
      }),
      { numRuns: 1000 },
    );
  });

  it('cuts where the limit is, in long texts too', async () => {
    const { fit: measure } = await openCounter('text-embedding-3-small');
    const text = 'It was the best of times, it was the worst of times; and nobody had told the clerk. '.repeat(3000);
    const length = measure?.(text, 8191) ?? 0;
    const tokens = encode(text.slice(0, length)).length;
    expect(tokens).toBeLessThanOrEqual(8191);
    expect(tokens).toBeGreaterThan(8191 * 0.995);
    expect(measure?.(text.slice(0, 1000), 8191)).toBe(1000);
  });
});

describe('weightedMean', () => {
  const vectors = fc.array(fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }), {
    minLength: 1,
    maxLength: 6,
  });

  it('is of length 1 for unit vectors, and nearest to the heaviest', () => {
    const unit = (angle: number) => Float32Array.of(Math.cos(angle), Math.sin(angle));
    const mean = weightedMean([unit(0), unit(Math.PI / 2)], [3, 1]) ?? Float32Array.of();
    expect(Math.hypot(...mean)).toBeCloseTo(1, 6);
    expect((mean[0] ?? 0) / (mean[1] ?? 1)).toBeCloseTo(3, 5);
    expect(weightedMean([unit(0), unit(Math.PI)], [2, 2])).toBe(undefined);
    expect(weightedMean([], [])).toBe(undefined);
  });

  it('is the plain mean for others', () => {
    fc.assert(
      fc.property(vectors, (given) => {
        const weights = given.map((_, i) => i + 1);
        const total = weights.reduce((a, b) => a + b, 0);
        const scaled = given.map((vector) => Float32Array.from(vector, (x) => x * 3 + 5));
        const mean = weightedMean(scaled, weights) ?? [];
        for (const [i, x] of mean.entries()) {
          const expected = scaled.reduce((sum, vector, n) => sum + (vector[i] ?? 0) * (weights[n] ?? 0), 0) / total;
          expect(x).toBeCloseTo(expected, 3);
        }
      }),
    );
  });
});
