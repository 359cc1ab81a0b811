import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/config/package-root.js';
import { planInferences } from '../../src/embed/providers/onnx-batches.js';
import { createGate, GateShut, shutGate, throughGate } from '../../src/embed/providers/onnx-gate.js';
import { pool } from '../../src/embed/providers/onnx-pool.js';
import { createCount, createEncode, createFit, type TokenizerFiles } from '../../src/embed/providers/onnx-tokens.js';

interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

/** The bundled model's tokeniser is a BERT's, like MiniLM's. */
const bert: TokenizerFiles = {
  tokenizer: JSON.parse(readFileSync(join(packageRoot(), 'models/static-mini/tokenizer.json'), 'utf8')),
  config: {},
};

/** A tokeniser that is no BERT's: every run of word characters, and of others, is a token or unknown. */
const other: TokenizerFiles = {
  tokenizer: {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'Whitespace' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab: { '[UNK]': 0, cat: 1, dog: 2, '!': 3 }, unk_token: '[UNK]' },
  },
  config: { unk_token: '[UNK]' },
};

describe('planInferences', () => {
  it('takes each text once, fills no inference beyond its bounds, and puts like to like', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 300 }), (lengths) => {
        const batches = planInferences(lengths);
        expect(batches.flat().sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
        for (const batch of batches) {
          const own = batch.map((index) => lengths[index] as number);
          const padded = Math.max(...own) * own.length;
          const padding = padded - own.reduce((sum, length) => sum + length, 0);
          expect(batch.length === 1 || padded <= 512).toBe(true);
          expect(padding).toBeLessThanOrEqual(padded * 0.15);
        }
      }),
    );
  });

  it('puts short texts together', () => {
    expect(planInferences(Array.from({ length: 64 }, () => 16)).map((batch) => batch.length)).toEqual([32, 32]);
  });
});

describe('createEncode', () => {
  const library: Library = new Tokenizer(bert.tokenizer, bert.config);

  it('gives what the library gives, for any text', () => {
    const encode = createEncode(bert, 10_000);
    const word = fc.oneof(
      fc.constantFrom('cat', 'Café', '日本語', '[SEP]', 'x'.repeat(120), '🙂', "don't"),
      fc.string(),
    );
    const text = fc
      .array(fc.tuple(word, fc.constantFrom(' ', '\n', '\t', '  ', '')), { maxLength: 20 })
      .map((parts) => parts.flat().join(''));
    fc.assert(
      fc.property(text, (one) => {
        expect(encode(one)).toEqual(library.encode(one, { add_special_tokens: true }).ids);
      }),
    );
  });

  it('cuts long texts before the closing token', () => {
    const ids = createEncode(bert, 8)('one two three four five six seven eight nine ten');
    const all = library.encode('one two three four five six seven', { add_special_tokens: true }).ids;
    expect(ids).toHaveLength(8);
    expect(ids).toEqual([...all.slice(0, 7), all.at(-1)]);
  });

  it('reads no more of a long text than it needs, with any tokeniser', () => {
    const encode = createEncode(other, 4);
    expect(encode('cat dog!')).toEqual([1, 2, 3]);
    expect(encode('cat dog cat dog cat dog')).toEqual([1, 2, 1, 2]);
    expect(encode(`${' '.repeat(1000)}dog cat`)).toEqual([2, 1]);
    expect(encode('')).toEqual([]);
  });
});

describe('createCount', () => {
  it('counts words, what is added to each text, and no more than the model takes', () => {
    const count = createCount(bert, 20, 2);
    expect(count('')).toBe(2);
    expect(count('The cat sat on the mat')).toBe(8);
    expect(count('cat '.repeat(100))).toBe(20);
    expect(createCount(other, 20, 0)('')).toBe(1);
  });

  it('takes its time from the words, not from the length of a run without spaces', () => {
    expect(createCount(bert, 512, 2)('日'.repeat(1_000_000))).toBe(512);
  });
});

describe('createFit', () => {
  const words = ['cat', 'Café', '日本語', '[SEP]', 'x'.repeat(120), '🙂', "don't", 'embeddings'];
  const textArbitrary = fc
    .array(fc.tuple(fc.oneof(fc.constantFrom(...words), fc.string()), fc.constantFrom(' ', '\n', '  ', '')), {
      maxLength: 20,
    })
    .map((parts) => parts.flat().join(''));

  it.each([
    ['BERT', bert],
    ['another tokeniser', other],
  ])('is a beginning that the model takes whole, and the text itself where it is short enough: %s', (_, files) => {
    const measure = createFit(files, 2);
    const encode = createEncode(files, 1_000_000);
    const extra = encode('').length;
    fc.assert(
      fc.property(textArbitrary, fc.integer({ min: 3, max: 30 }), (text, most) => {
        const length = measure(text, most);
        expect(encode(text.slice(0, length)).length - extra + 2).toBeLessThanOrEqual(most);
        if (length < text.length) expect(encode(text).length - extra + 2).toBeGreaterThan(most - 3);
      }),
      { numRuns: 500 },
    );
  });

  it('reads no more of a long text than it needs', () => {
    expect(createFit(bert, 2)('cat '.repeat(1_000_000), 20)).toBeGreaterThanOrEqual(18 * 4 - 1);
    expect(createFit(bert, 2)('日'.repeat(1_000_000), 512)).toBe(510);
    expect(createFit(other, 0)('', 20)).toBe(0);
    expect(createFit(bert, 5)('cat', 4)).toBe(0);
  });
});

describe('pool', () => {
  // Two texts of 3 and 1 tokens, 2 dimensions; 9 is padding.
  const hidden = { data: Float32Array.from([1, 2, 3, 4, 5, 9, 3, 4, 9, 9, 9, 9]), width: 3, dimensions: 2 };
  const pooled = (row: number, length: number, pooling: 'mean' | 'cls' | 'last_token', normalise: boolean) => {
    const out = new Float32Array(2);
    pool(hidden, row, length, { pooling, normalise }, out);
    return [...out];
  };

  it('leaves padding out', () => {
    expect(pooled(0, 3, 'mean', false)).toEqual([3, 5]);
    expect(pooled(1, 1, 'mean', false)).toEqual([3, 4]);
    expect(pooled(0, 3, 'cls', false)).toEqual([1, 2]);
    expect(pooled(0, 3, 'last_token', false)).toEqual([5, 9]);
    expect(pooled(1, 1, 'last_token', false)).toEqual([3, 4]);
  });

  it('scales to length 1', () => {
    const [x, y] = pooled(1, 1, 'mean', true);
    expect([x, y]).toEqual([Math.fround(0.6), Math.fround(0.8)]);
  });
});

describe('the gate', () => {
  it('lets nobody in once it is shut, and is open again between two', async () => {
    const gate = createGate();
    expect(await throughGate(gate, async () => 1)).toBe(1);
    await expect(throughGate(gate, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    shutGate(gate, 60_000); // Nobody is inside: it does not wait.
    await expect(throughGate(gate, async () => 1)).rejects.toBeInstanceOf(GateShut);
    shutGate(gate, 60_000);
  });
});
