import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planBatches } from '../../src/embed/batch.js';
import { embedAll } from '../../src/embed/embed-all.js';
import { type EmbeddingModel, EmbedError } from '../../src/embed/port.js';
import { readStaticFiles } from '../../src/embed/providers/static-files.js';
import { createWordTokens, isBreak, standsAlone } from '../../src/embed/providers/static-tokens.js';

const limitsArbitrary = fc.record({
  maxInputs: fc.integer({ min: 1, max: 8 }),
  maxTokensPerInput: fc.integer({ min: 1, max: 20 }),
  maxTokensPerRequest: fc.integer({ min: 1, max: 60 }),
});
const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 60 });

describe('planBatches', () => {
  it('puts every item into one request, in order, within the limits unless it stands alone', () => {
    fc.assert(
      fc.property(lengthsArbitrary, limitsArbitrary, (lengths, limits) => {
        const batches = planBatches(lengths, limits);
        expect(batches.flat()).toEqual(lengths.map((_, i) => i));
        for (const batch of batches) {
          const tokens = batch.map((i) => lengths[i] ?? 0);
          expect(batch.length).toBeGreaterThan(0);
          expect(batch.length).toBeLessThanOrEqual(limits.maxInputs);
          if (batch.length === 1) continue;
          expect(sum(tokens)).toBeLessThanOrEqual(limits.maxTokensPerRequest);
          expect(Math.max(...tokens)).toBeLessThanOrEqual(limits.maxTokensPerInput);
        }
      }),
    );
  });

  it('closes no request early: the first item of the next one would not have fitted', () => {
    fc.assert(
      fc.property(lengthsArbitrary, limitsArbitrary, (lengths, limits) => {
        const batches = planBatches(lengths, limits);
        batches.slice(1).forEach((batch, i) => {
          const before = (batches[i] ?? []).map((j) => lengths[j] ?? 0);
          const next = lengths[batch[0] ?? -1] ?? 0;
          const full = before.length === limits.maxInputs || sum(before) + next > limits.maxTokensPerRequest;
          const alone = [next, ...before].some((length) => length > limits.maxTokensPerInput);
          expect(full || alone).toBe(true);
        });
      }),
    );
  });
});

describe('embedAll', () => {
  const textArbitrary = fc.oneof(
    fc.stringMatching(/^g[a-z]{0,6}$/),
    fc.stringMatching(/^bad[a-z]{0,2}$/),
    fc.stringMatching(/^sick[a-z]{0,2}$/),
  );
  const outcomeOf = (text: string) => {
    if (isBad(text)) return { rejected: 'bad text' };
    return isSick(text) ? { rejected: 'HTTP 500', unsure: true } : { vector: vectorOf(text) };
  };

  it('rejects exactly the bad texts, embeds each other text once, in few calls', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(textArbitrary, { maxLength: 40 }), limitsArbitrary, async (texts, limits) => {
        const model = pickyModel(limits, Number.POSITIVE_INFINITY);
        const { outcomes, tokens } = await embedAll(model, texts, { purpose: 'document' });
        expect(outcomes).toEqual(texts.map(outcomeOf));
        const good = new Set(texts.filter((text) => !isBad(text) && !isSick(text)));
        const bad = new Set(texts.filter(isBad));
        const sick = new Set(texts.filter(isSick));
        const ours = model.paid.filter((text) => text !== model.control);
        expect(ours.sort()).toEqual([...good].sort());
        expect(tokens).toBe(model.paid.length);
        // Each bad text costs a path through its request's tree of halves, and its siblings on the way; one that the
        // provider fails at also a harmless text for each of them, and is sent once more in the end.
        const batches = planBatches([...new Set(texts)].map(model.countTokens), limits).length;
        expect(model.calls).toBeLessThanOrEqual(
          batches + 1 + (bad.size * 2 + sick.size * 3) * Math.ceil(Math.log2(limits.maxInputs + 1)) + sick.size * 3,
        );
      }),
    );
  });

  it('leaves no text without an outcome, and blames no good one, when the provider fails at any call', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(textArbitrary, { maxLength: 40 }),
        limitsArbitrary,
        fc.integer({ min: 1, max: 20 }),
        async (texts, limits, failAt) => {
          const model = pickyModel(limits, failAt);
          const { outcomes } = await embedAll(model, texts, { purpose: 'document' });
          expect(outcomes).toHaveLength(texts.length);
          texts.forEach((text, i) => {
            expect([outcomeOf(text), { delayed: 70, failure: 'rate_limited' }]).toContainEqual(outcomes[i]);
          });
          expect(model.calls).toBeLessThanOrEqual(failAt);
        },
      ),
    );
  });
});

describe('the words of static/mini', () => {
  it('are those that the library finds in the whole text, for any Unicode', async () => {
    const { tokenizer } = await readStaticFiles('mini');
    const library = new Tokenizer(tokenizer, {});
    const words = createWordTokens(tokenizer, []);
    const awkward = fc.constantFrom(' ', '\n', '\t', '-', '/', '漢', 'Σ', 'a', '\u0301', '\u200b', '[MASK]', "'", '.');
    const text = fc.array(
      fc.oneof(fc.string({ unit: 'grapheme', maxLength: 3 }), fc.string({ unit: 'binary' }), awkward),
    );
    fc.assert(
      fc.property(text, (parts) => {
        const whole = library.encode(parts.join(''), { add_special_tokens: false }).ids;
        expect(cut(parts.join('')).flatMap((word) => words(word))).toEqual(whole);
      }),
      { numRuns: 2000 },
    );
  });
});

/** Every cut that the model may make, at any length. */
function cut(text: string): string[] {
  return text
    .split('')
    .reduce<string[]>(
      (parts, char) => {
        const unit = char.charCodeAt(0);
        if (isBreak(unit)) parts.push('');
        else if (standsAlone(unit)) parts.push(char);
        else parts.push(`${parts.pop() ?? ''}${char}`);
        return parts;
      },
      [''],
    )
    .filter((word) => word !== '');
}

/** Rejects a request with a bad text in it, fails at one with a sick text; from call `failAt` on it is rate limited. */
function pickyModel(limits: EmbeddingModel['limits'], failAt: number) {
  const seen = { calls: 0, paid: [] as string[], control: 'The quick brown fox jumps over the lazy dog.' };
  const model: EmbeddingModel = {
    spec: 'test/picky@1',
    fingerprint: 'test/picky@1#0',
    dimensions: 1,
    limits,
    countTokens: (text) => text.length,
    close: async () => {},
    async embed(texts) {
      seen.calls++;
      if (seen.calls >= failAt) throw new EmbedError('rate_limited', 'slow down', { retryAfterMs: 70 });
      if (texts.some(isBad)) throw new EmbedError('input_rejected', 'bad text');
      if (texts.some(isSick)) throw new EmbedError('unavailable', 'HTTP 500', { status: 500 });
      seen.paid.push(...texts);
      return { vectors: texts.map(vectorOf), tokens: texts.length };
    },
  };
  return Object.assign(seen, model);
}

const isSick = (text: string) => text.startsWith('sick');
const isBad = (text: string) => text.startsWith('bad');
const vectorOf = (text: string) => Float32Array.of(text.length, text.charCodeAt(1));
const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
