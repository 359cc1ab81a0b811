import { encode } from 'gpt-tokenizer/encoding/cl100k_base';
import { describe, expect, it } from 'vitest';
import { estimateTokens, learningCounter, openCounter } from '../../src/embed/tokens.js';

describe("the counter of OpenAI's own models", () => {
  it.each(['text-embedding-3-small', 'text-embedding-3-large', 'text-embedding-ada-002'])('%s: exact', async (name) => {
    const { count } = await openCounter(name);
    expect(count('hello world')).toBe(2);
    expect(count('tiktoken is great!')).toBe(6);
    expect(count('')).toBe(1);
  });

  it.each([
    ['English', 'It was the best of times, it was the worst of times; and nobody had told the clerk. '],
    ['Cyrillic', 'Все счастливые семьи похожи друг на друга. '],
    ['code', 'export const add = (a: number, b: number): number => {\n  return a + b;\n};\n\n'],
  ])('counts long texts in slices as it does in one: %s', async (_, sentence) => {
    const { count } = await openCounter('text-embedding-3-small');
    const text = sentence.repeat(200);
    const exact = encode(text).length;
    expect(Math.abs(count(text) - exact)).toBeLessThanOrEqual(exact * 0.002);
  });

  it('takes words of special meaning for text, and half of a surrogate pair', async () => {
    const { count } = await openCounter('text-embedding-3-small');
    expect(count('a<|endoftext|>b')).toBeGreaterThan(3);
    expect(count('\ud800 x')).toBeGreaterThan(0);
    expect(count('😀'.repeat(2000))).toBeGreaterThanOrEqual(encode('😀'.repeat(2000)).length);
  });

  it.each([
    ['a word of 200,000 letters', 'a'.repeat(200_000)],
    ['200,000 spaces', ' '.repeat(200_000)],
    ['10 MB', 'lorem ipsum '.repeat(850_000)],
  ])('does not stop the process for %s', async (_, text) => {
    const { count } = await openCounter('text-embedding-3-small');
    const begin = performance.now();
    const tokens = count(text);
    expect(performance.now() - begin).toBeLessThan(1500); // 16 s for the letters when counted at once.
    expect(tokens).toBeGreaterThan(1000);
  });
});

describe('the counter that learns', () => {
  const texts = ['a text of some length', 'and another one'];
  const estimated = texts.reduce((sum, text) => sum + estimateTokens(text), 0);
  const long = 'x'.repeat(4000);

  it('begins with the estimate and comes to what the provider charges', () => {
    const counter = learningCounter();
    expect(counter.count(long)).toBe(1000);
    counter.learn(texts, estimated * 1.5);
    expect(counter.count(long)).toBe(1500);
    counter.learn(texts, estimated);
    expect(counter.count(long)).toBe(1400); // A fifth of the way.
    for (let i = 0; i < 60; i++) counter.learn(texts, estimated * 2);
    expect(counter.count(long)).toBe(2000);
  });

  it('keeps within bounds, and leaves figures aside that say nothing', () => {
    const counter = learningCounter();
    for (const charged of [0, -5, Number.NaN]) counter.learn(texts, charged);
    counter.learn([], 100);
    expect(counter.count(long)).toBe(1000);
    const greedy = learningCounter();
    greedy.learn(texts, estimated * 1000);
    expect(greedy.count(long)).toBe(4000);
    const modest = learningCounter();
    modest.learn(texts, 0.001);
    expect(modest.count(long)).toBe(300);
    expect(modest.count('')).toBe(1);
  });
});
