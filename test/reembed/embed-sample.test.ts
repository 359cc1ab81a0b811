import { expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { type EmbeddingModel, EmbedError } from '../../src/embed/port.js';
import { compareModels } from '../../src/reembed/compare.js';
import { embedSample } from '../../src/reembed/eval/embed.js';
import { contextOf, onBoth, type ReembedFixture, textOf, twoSpaces } from './two-spaces.js';

/** A model that is paid for, of small requests, the n-th of which gets `answers(n)`; what it embedded is in `paid`. */
async function limited({ models }: ReembedFixture, spec: string, answers: (n: number) => EmbedError | undefined) {
  const model = await models.get(spec);
  const paid: string[] = [];
  let requests = 0;
  const embed: EmbeddingModel['embed'] = async (texts, how) => {
    const error = answers(++requests);
    if (error) throw error;
    paid.push(...texts.map((text) => `${how.purpose} ${text}`));
    return model.embed(texts, how);
  };
  const limits = { ...model.limits, maxInputs: 10 };
  const made: EmbeddingModel = { ...model, embed, limits, account: `test of ${spec}` };
  return { model: made, paid, requests: () => requests };
}

const tooMany = (retryAfterMs?: number) =>
  new EmbedError('rate_limited', 'too many requests', {
    status: 429,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });

onBoth((fixture) => {
  test('a provider that asks for a pause half-way is waited for, and no text is paid for twice', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'slow', rows: 60, indexed: false });
    const budget = createGates(fixture().db, {}, () => {});
    const first = await limited(fixture(), 'static/mini@128', () => undefined);
    const second = await limited(fixture(), 'static/mini@256', (n) => (n === 3 ? tooMany(2500) : undefined));
    const get = async (spec: string) => (spec === 'static/mini@128' ? first.model : second.model);
    const context = { ...contextOf(fixture(), spaces), budget, prices: {}, models: { ...fixture().models, get } };
    const queries = Array.from({ length: 12 }, (_, i) => ({ query: textOf(i + 1), relevant: [String(i + 1)] }));
    const models = ['static/mini@128', 'static/mini@256'];
    const comparison = await compareModels(context, { models, queries, sampleRows: 50 });
    expect(comparison.models.map(({ rejected, recall }) => [rejected, recall.mean])).toEqual([
      [0, 1],
      [0, 1],
    ]);
    for (const { paid } of [first, second]) {
      expect(paid).toHaveLength(comparison.rows + 12);
      expect(new Set(paid).size).toBe(paid.length);
    }
    await budget.close();
  });

  test('what does not pass in time, or at all, ends it; so does an abort', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'never', rows: 5, indexed: false });
    const context = contextOf(fixture(), spaces);
    const texts = [textOf(1), textOf(2)];
    const ask = (model: EmbeddingModel, signal = context.signal) =>
      embedSample({ ...context, signal }, { ...model, account: undefined }, texts, 'document');
    const hour = await limited(fixture(), 'static/mini@128', () => tooMany(3_600_000));
    await expect(ask(hour.model)).rejects.toMatchObject({ failure: 'rate_limited' });
    expect(hour.requests()).toBe(1);
    const always = await limited(fixture(), 'static/mini@128', () => new EmbedError('unavailable', 'on fire'));
    await expect(ask(always.model)).rejects.toMatchObject({ failure: 'unavailable' });
    expect(always.requests()).toBe(4);
    const refused = await limited(fixture(), 'static/mini@128', () => new EmbedError('unauthorised', 'no such key'));
    await expect(ask(refused.model)).rejects.toThrow('no such key');
    const stop = new AbortController();
    const paused = await limited(fixture(), 'static/mini@128', () => {
      setTimeout(() => stop.abort(new Error('enough')), 50);
      return tooMany(60_000);
    });
    await expect(ask(paused.model, stop.signal)).rejects.toThrow('enough');
    expect(paused.requests()).toBe(1);
  });
});
