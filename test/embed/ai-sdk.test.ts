import { createOpenAI } from '@ai-sdk/openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EmbeddingModel, EmbedError } from '../../src/embed/port.js';
import { type AiSdkEmbeddingModel, type FromAiSdkOptions, fromAiSdk } from '../../src/embed/providers/ai-sdk.js';
import { FAULT_CASES } from '../support/standin/fault-cases.js';

import { type Standin, startStandin } from '../support/standin/standin.js';
import { standinVector } from '../support/standin/vectors.js';

const KEY = 'sk-very-secret-0123456789';
const MARKER = 'marker-of-a-private-text';
const TEXTS = [`${MARKER} 1`, `${MARKER} 2`, `${MARKER} 3`];
const purpose = 'document' as const;
const vectors = TEXTS.map((text) => standinVector(text, 64));

let standin: Standin;
beforeEach(async () => {
  standin = await startStandin();
});
afterEach(() => standin.close());

const embedding = (modelId = 'text-embedding-3-small') =>
  createOpenAI({ apiKey: KEY, baseURL: standin.baseUrl }).embedding(modelId);

function open(options: Partial<FromAiSdkOptions> = {}, aiModel: AiSdkEmbeddingModel = embedding()): EmbeddingModel {
  return fromAiSdk(aiModel, { name: 'small', dimensions: 64, ...options });
}

async function failureOf(model: EmbeddingModel): Promise<EmbedError> {
  const error = await model.embed(TEXTS, { purpose }).then(
    () => Promise.reject(new Error('the call did not fail')),
    (caught: EmbedError) => caught,
  );
  const said = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
  for (const secret of [KEY, MARKER, '127.0.0.1']) expect(said).not.toContain(secret);
  return error;
}

describe('a model of @ai-sdk/openai', () => {
  it('embeds, counts and tells what is left of the limits', async () => {
    await standin.close();
    standin = await startStandin({ tokensPerMinute: 1000 });
    const result = await open().embed(TEXTS, { purpose });
    expect(result.vectors).toEqual(vectors);
    expect(result.tokens).toBe(21);
    expect(result.rateLimit).toMatchObject({ limitTokens: 1000, remainingTokens: 979 });
    expect(standin.last?.headers.authorization).toBe(`Bearer ${KEY}`);
  });

  it('has a spec, limits and an account', () => {
    const model = open();
    expect(model.spec).toBe('ai/small@64');
    expect(model.fingerprint).toMatch(/^ai\/small@64#[0-9a-f]{8}$/);
    expect(model.limits).toEqual({ maxInputs: 2048, maxTokensPerInput: 8191, maxTokensPerRequest: 300_000 });
    expect(model.account).toMatch(/^[0-9a-f]{16}$/);
    expect(open({ maxInputs: 7 }).limits.maxInputs).toBe(7);
    const later: AiSdkEmbeddingModel = { ...embedding(), maxEmbeddingsPerCall: Promise.resolve(10) };
    expect(open({}, later).limits.maxInputs).toBe(96);
  });

  it('has another fingerprint whenever the vectors mean something else', () => {
    const prints = [
      open(),
      open({ revision: '2' }),
      open({ dimensions: 32 }),
      open({}, embedding('text-embedding-3-large')),
      open({ providerOptions: { document: { openai: { dimensions: 64, user: 'a' } } } }),
    ].map((model) => model.fingerprint);
    expect(new Set(prints).size).toBe(5);
    const turned = open({ providerOptions: { document: { openai: { user: 'a', dimensions: 64 } } } });
    expect(turned.fingerprint).toBe(prints[4]);
  });

  it('passes the options of each purpose on', async () => {
    const providerOptions = { document: { openai: { dimensions: 32 } }, query: { openai: { dimensions: 16 } } };
    await expect(open({ dimensions: 32, providerOptions }).embed(TEXTS, { purpose })).resolves.toBeDefined();
    await expect(open({ dimensions: 16, providerOptions }).embed(TEXTS, { purpose: 'query' })).resolves.toBeDefined();
  });

  it('puts vectors into the order of the texts, which the AI SDK does not', async () => {
    standin.set({ faults: [{ kind: 'reordered' }] });
    const { embeddings } = await embedding().doEmbed({ values: TEXTS });
    expect(Float32Array.from(embeddings[0] ?? [])).toEqual(vectors[2]);
    expect((await open().embed(TEXTS, { purpose })).vectors).toEqual(vectors);
  });

  it.each([
    { name: 'a b' },
    { name: 'a#b' },
    { name: '' },
    { dimensions: 0 },
    { dimensions: 1.5 },
    { dimensions: 1e6 },
  ])('%j is refused', (options) =>
    expect(() => open(options)).toThrow(expect.objectContaining({ failure: 'configuration' })),
  );
});

describe('each fault of the matrix', () => {
  it.each(FAULT_CASES)('%j is %s; the next request is fine', async (fault, failure, details) => {
    standin.set({ faults: [{ ...fault, times: 1 }] });
    const model = open({ requestTimeoutMs: 1000 });
    expect(await failureOf(model)).toMatchObject({ name: 'EmbedError', failure, details });
    expect((await model.embed(TEXTS, { purpose })).vectors).toEqual(vectors);
  });

  it('a poison text is rejected, a closed port unavailable', async () => {
    standin.set({ poison: MARKER });
    expect(await failureOf(open())).toMatchObject({ failure: 'input_rejected', details: { status: 400 } });
    const aiModel = createOpenAI({ apiKey: KEY, baseURL: 'http://127.0.0.1:1/v1' }).embedding('m');
    expect(await failureOf(open({}, aiModel))).toMatchObject({ failure: 'unavailable' });
  });

  it('without a key it is a matter of configuration', async () => {
    const before = process.env.OPENAI_API_KEY;
    delete process.env.OPENAI_API_KEY;
    try {
      const aiModel = createOpenAI({ baseURL: standin.baseUrl }).embedding('m');
      expect(await failureOf(open({}, aiModel))).toMatchObject({ failure: 'configuration' });
    } finally {
      if (before !== undefined) process.env.OPENAI_API_KEY = before;
    }
  });

  it('rejects with the reason of the signal, and does not wait for a model that pays it no heed', async () => {
    const reason = new Error('shutting down');
    const deaf: AiSdkEmbeddingModel = { ...embedding(), doEmbed: () => new Promise(() => {}) };
    for (const aiModel of [embedding(), deaf]) {
      standin.set({ faults: [{ kind: 'hang' }] });
      const controller = new AbortController();
      const running = open({}, aiModel).embed(TEXTS, { purpose, signal: controller.signal });
      setTimeout(() => controller.abort(reason), 20);
      await expect(running).rejects.toBe(reason);
    }
  });
});
