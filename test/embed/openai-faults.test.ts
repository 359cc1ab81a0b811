import { afterEach, describe, expect, it } from 'vitest';
import { embedAll } from '../../src/embed/embed-all.js';
import { openModel } from '../../src/embed/open.js';
import type { EmbeddingModel, EmbedError } from '../../src/embed/port.js';
import { FAULT_CASES } from '../support/standin/fault-cases.js';
import type { FaultRule } from '../support/standin/faults.js';
import { type Standin, type StandinOptions, startStandin } from '../support/standin/standin.js';
import { standinVector } from '../support/standin/vectors.js';

const KEY = 'sk-very-secret-0123456789';
const MARKER = 'marker-of-a-private-text';
const TEXTS = [`${MARKER} 1`, `${MARKER} 2`, `${MARKER} 3`];
const purpose = 'document' as const;

let standins: Standin[] = [];

afterEach(async () => {
  await Promise.all(standins.map((standin) => standin.close()));
  standins = [];
});

async function start(options: StandinOptions = {}): Promise<Standin> {
  const standin = await startStandin(options);
  standins.push(standin);
  return standin;
}

async function open(standin: Standin, requestTimeoutMs = 5000): Promise<EmbeddingModel> {
  return openModel('openai/test@64', { openai: { apiKey: KEY, baseUrl: standin.baseUrl }, requestTimeoutMs });
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

const vectors = TEXTS.map((text) => standinVector(text, 64));

describe('each fault of the matrix', () => {
  it.each<readonly [FaultRule, string, object]>([
    [{ kind: 'rate_limited' }, 'rate_limited', { status: 429 }],
    ...FAULT_CASES,
  ])('%j is %s; the next request is fine', async (fault, failure, details) => {
    const standin = await start({ faults: [{ ...fault, times: 1 }] });
    const model = await open(standin, 1000);
    expect(await failureOf(model)).toMatchObject({ name: 'EmbedError', failure, details });
    expect((await model.embed(TEXTS, { purpose })).vectors).toEqual(vectors);
    expect(standin.stats()).toMatchObject({ requests: 2, faults: { [fault.kind]: 1 } });
  });

  it('a server that is not there was not asked; one that hangs up may have been', async () => {
    const gone = await startStandin({});
    const model = await open(gone);
    await gone.close();
    expect((await failureOf(model)).details).toEqual({ notSent: true });
    const hangsUp = await open(await start({ faults: [{ kind: 'reset' }] }));
    expect((await failureOf(hangsUp)).details).toEqual({});
  });

  it('an answer in another order is a valid one', async () => {
    const model = await open(await start({ faults: [{ kind: 'reordered' }] }));
    expect((await model.embed(TEXTS, { purpose })).vectors).toEqual(vectors);
  });

  it('so is one that comes slowly, but in time', async () => {
    const model = await open(await start({ faults: [{ kind: 'drip', chunks: 5, everyMs: 10 }] }));
    expect((await model.embed(TEXTS, { purpose })).vectors).toEqual(vectors);
  });

  it('one poison text among 500 costs that text only', async () => {
    const standin = await start({ poison: '[[bad]]' });
    const texts = Array.from({ length: 500 }, (_, i) => (i === 321 ? `${MARKER} [[bad]]` : `text ${i}`));
    const { outcomes } = await embedAll(await open(standin), texts, { purpose });
    expect(outcomes.filter((outcome) => 'vector' in outcome)).toHaveLength(499);
    expect(outcomes[321]).toEqual({ rejected: expect.not.stringContaining(MARKER) });
    // A harmless text is asked as well, once for each time that somebody is to be blamed.
    const ours = texts.filter((text) => text.startsWith('text'));
    expect(ours.map((text) => standin.texts.get(text))).toEqual(ours.map(() => 1));
  });

  it('a silent change of the model gives other vectors, and no error: the probe must find it', async () => {
    const standin = await start();
    const model = await open(standin);
    standin.set({ faults: [{ kind: 'model_changed', seed: 9 }] });
    expect((await model.embed(['a'], { purpose })).vectors).toEqual([standinVector('a', 64, 9)]);
  });
});

describe('redirects', () => {
  it.each([301, 302, 307, 308] as const)('%d is refused: nothing reaches its target', async (status) => {
    const target = await start();
    const location = `${target.baseUrl}/embeddings`;
    const standin = await start({ faults: [{ kind: 'redirect', location, status }] });
    const error = await failureOf(await open(standin));
    expect(error).toMatchObject({ failure: 'configuration', details: { status } });
    expect(target.last).toBeUndefined();
    expect(target.stats().requests).toBe(0);
    expect(standin.stats().requests).toBe(1);
  });
});

describe('rate limits', () => {
  it('are passed on from answers and refusals', async () => {
    const standin = await start({ requestsPerMinute: 2, tokensPerMinute: 1000, windowMs: 60_000 });
    const model = await open(standin);
    const { rateLimit, tokens } = await model.embed(['abcd', 'abcd!'], { purpose });
    expect(tokens).toBe(3);
    expect(rateLimit).toMatchObject({
      limitRequests: 2,
      remainingRequests: 1,
      limitTokens: 1000,
      remainingTokens: 997,
    });
    expect(rateLimit?.resetRequestsMs).toBe(60_000);
    await model.embed(['a'], { purpose });
    const { failure, details } = await failureOf(model);
    expect(failure).toBe('rate_limited');
    expect(details.rateLimit).toMatchObject({ remainingRequests: 0, remainingTokens: 996 });
    expect(details.retryAfterMs).toBeGreaterThan(55_000);
    expect(details.retryAfterMs).toBeLessThanOrEqual(60_000);
  });

  it('are absent where the provider names none', async () => {
    const result = await (await open(await start())).embed(['a'], { purpose });
    expect(result).not.toHaveProperty('rateLimit');
  });
});
