import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterEach, describe, expect, it } from 'vitest';
import { goDuration, type Standin, type StandinOptions, type StandinStats, startStandin } from './standin/standin.js';
import { standinVector } from './standin/vectors.js';
import { SlidingWindow } from './standin/window.js';

let open: Standin[] = [];

afterEach(async () => {
  await Promise.all(open.map((standin) => standin.close()));
  open = [];
});

async function start(options: StandinOptions = {}): Promise<Standin> {
  const standin = await startStandin(options);
  open.push(standin);
  return standin;
}

function ask(standin: Standin, input: string | string[], more: object = {}): Promise<Response> {
  const body = JSON.stringify({ model: 'm', input, ...more });
  return fetch(`${standin.baseUrl}/embeddings`, { method: 'POST', body });
}

interface Body {
  data: { index: number; embedding: string | number[] }[];
  usage: { total_tokens: number };
}

async function vectorsOf(response: Response): Promise<Float32Array[]> {
  expect(response.status).toBe(200);
  const { data } = (await response.json()) as Body;
  return data.map(({ embedding }) => {
    if (typeof embedding !== 'string') return Float32Array.from(embedding);
    const bytes = Buffer.from(embedding, 'base64');
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
  });
}

describe('the sliding window', () => {
  it('lets no more through in any stretch of its length, and says when a request fits', () => {
    const window = new SlidingWindow({ requests: 3, tokens: 100 }, 60_000);
    const one = { requests: 1, tokens: 10 };
    expect([0, 50_000, 59_000].map((at) => window.take(one, at))).toEqual([undefined, undefined, undefined]);
    // A bucket that is refilled at the full minute would let three more in here.
    expect(window.take(one, 59_999)).toBe(1);
    expect(window.take(one, 60_000)).toBeUndefined();
    expect(window.take(one, 60_001)).toBe(49_999);
    expect(window.take(one, 110_000)).toBeUndefined();
    expect(window.peak).toEqual({ requests: 3, tokens: 30 });
  });

  it('counts tokens as well, and does not count what it refuses', () => {
    const window = new SlidingWindow({ requests: 100, tokens: 100 }, 1000);
    expect(window.take({ requests: 1, tokens: 60 }, 0)).toBeUndefined();
    expect(window.take({ requests: 1, tokens: 50 }, 400)).toBe(600);
    expect(window.take({ requests: 1, tokens: 40 }, 400)).toBeUndefined();
    expect(window.state(400)).toEqual({ remaining: { requests: 98, tokens: 0 }, resetMs: 1000 });
    // The first leaves at 1000, but 90 fit only once the second has left too.
    expect(window.take({ requests: 1, tokens: 90 }, 500)).toBe(900);
    expect(window.take({ requests: 1, tokens: 101 }, 5000)).toBe(1000);
    expect(window.state(5000)).toEqual({ remaining: { requests: 100, tokens: 100 }, resetMs: 0 });
  });

  it('agrees with counting by hand over a long run', () => {
    const window = new SlidingWindow({ requests: 20, tokens: 500 }, 1000);
    const taken: { at: number; tokens: number }[] = [];
    for (let i = 0, at = 0; i < 10_000; i++, at += (i * 7919) % 83) {
      const tokens = 1 + ((i * 31) % 60);
      const inside = taken.filter((entry) => entry.at + 1000 > at);
      const fits = inside.length < 20 && inside.reduce((sum, entry) => sum + entry.tokens, tokens) <= 500;
      expect(window.take({ requests: 1, tokens }, at) === undefined).toBe(fits);
      if (fits) taken.push({ at, tokens });
      if (taken.length > 100) taken.splice(0, 50);
    }
  });

  it.each([
    [0, '0ms'],
    [119.2, '120ms'],
    [1000, '1s'],
    [1500, '1.5s'],
    [360_000, '6m0s'],
  ])('writes %d ms as %s', (ms, text) => expect(goDuration(ms)).toBe(text));
});

describe('answers', () => {
  it('has unit vectors that depend on text, dimensions and seed only', async () => {
    const [a, b] = [await start(), await start()];
    const [first, second] = await vectorsOf(await ask(a, ['x', 'y'], { dimensions: 33 }));
    expect(first).toHaveLength(33);
    expect(first).not.toEqual(second);
    expect(Math.hypot(...(first ?? []))).toBeCloseTo(1, 6);
    const [again] = await vectorsOf(await ask(b, 'x', { dimensions: 33, encoding_format: 'base64' }));
    expect(again).toEqual(first);
    expect(again).toEqual(standinVector('x', 33));
    expect(standinVector('x', 33, 1)).not.toEqual(standinVector('x', 33));
  });

  it('counts tokens by bytes, and texts as often as they were charged', async () => {
    const standin = await start({ bytesPerToken: 2 });
    const { usage } = (await (await ask(standin, ['abcd', 'é'])).json()) as Body;
    expect(usage.total_tokens).toBe(3);
    await ask(standin, 'abcd');
    expect([...standin.texts]).toEqual([
      ['abcd', 2],
      ['é', 1],
    ]);
    expect(standin.stats()).toMatchObject({
      requests: 2,
      charged: { requests: 2, texts: 3, tokens: 5 },
      chargedAgain: 1,
      answered: 2,
      perMinute: { maxRequests: 2, maxTokens: 5 },
    });
  });

  it.each([
    ['no model', { model: undefined }],
    ['no texts', { input: [] }],
    ['numbers', { input: [1, 2] }],
    ['an empty text', { input: ['a', ''] }],
    ['too many texts', { input: ['a', 'b', 'c'] }],
    ['a text that is too long', { input: ['a'.repeat(41)] }],
    ['another format', { encoding_format: 'hex' }],
    ['no dimensions', { dimensions: 0 }],
    ['poison', { input: ['a', 'all [[bad]]'] }],
  ])('rejects %s with 400, uncharged', async (_, more) => {
    const standin = await start({ maxInputs: 2, maxTokensPerInput: 10, poison: '[[bad]]' });
    const response = await ask(standin, ['a'], more);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error' } });
    expect(standin.stats()).toMatchObject({ rejected: 1, charged: { requests: 0 } });
  });

  it('takes its time', async () => {
    const standin = await start({ latencyMs: 60, jitterMs: 30 });
    const begin = performance.now();
    await ask(standin, 'a');
    expect(performance.now() - begin).toBeGreaterThanOrEqual(29);
  });
});

describe('limits', () => {
  it('answers 429 with the time to wait, does not count it, and lets the request in then', async () => {
    const standin = await start({ requestsPerMinute: 2, tokensPerMinute: 1000, windowMs: 500 });
    const headers = (response: Response) =>
      Object.fromEntries([...response.headers].filter(([name]) => /ratelimit-(limit|remaining)/.test(name)));
    expect(headers(await ask(standin, 'abcdefgh'))).toEqual({
      'x-ratelimit-limit-requests': '2',
      'x-ratelimit-remaining-requests': '1',
      'x-ratelimit-limit-tokens': '1000',
      'x-ratelimit-remaining-tokens': '998',
    });
    await ask(standin, 'a');
    const refused = await ask(standin, 'a');
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect(refused.headers.get('x-ratelimit-reset-requests')).toMatch(/^\d{1,3}ms$/);
    const waitMs = Number(refused.headers.get('retry-after-ms'));
    expect(waitMs).toBeGreaterThan(0);
    expect(waitMs).toBeLessThanOrEqual(500);
    await new Promise((resolve) => setTimeout(resolve, waitMs + 1));
    expect((await ask(standin, 'a')).status).toBe(200);
    expect(standin.stats()).toMatchObject({ requests: 4, charged: { requests: 3 }, rateLimited: 1 });
    expect(standin.stats().perMinute.maxRequests).toBe(2);
  });

  it('refuses by tokens alone', async () => {
    const standin = await start({ tokensPerMinute: 10 });
    expect((await ask(standin, 'a'.repeat(36))).status).toBe(200);
    const refused = await ask(standin, 'a'.repeat(8));
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBe(60);
    expect(refused.headers.get('x-ratelimit-limit-requests')).toBeNull();
    expect((await ask(standin, 'abcd')).status).toBe(200);
  });
});

describe('faults', () => {
  it('hit the share that they should, the same ones for the same seed, and so many at most', async () => {
    const run = async (seed: number) => {
      const standin = await start({ seed, faults: [{ kind: 'server_error', rate: 0.3, times: 20 }] });
      const statuses: number[] = [];
      for (let i = 0; i < 100; i++) statuses.push((await ask(standin, `${i}`)).status);
      expect(standin.stats().faults).toEqual({ server_error: statuses.filter((status) => status === 500).length });
      return statuses;
    };
    const first = await run(1);
    expect(first.filter((status) => status === 500)).toHaveLength(20);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
  });

  it('are switched while it runs', async () => {
    const standin = await start();
    standin.set({ faults: [{ kind: 'overloaded', retryAfterMs: 2500 }] });
    const refused = await ask(standin, 'a');
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '3']);
    standin.set({ faults: [], modelSeed: 7 });
    expect(await vectorsOf(await ask(standin, 'a'))).toEqual([standinVector('a', 64, 7)]);
  });
});

describe('as a process', () => {
  it('prints its URL, counts, takes settings, ends on SIGTERM', { timeout: 30_000 }, async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'freshvec-standin-'));
    await compile(fileURLToPath(new URL('standin/', import.meta.url)), folder);
    const args = [path.join(folder, 'standin-main.js'), '{"requestsPerMinute":1,"dimensions":8}'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const baseUrl = await new Promise<string>((resolve, reject) => {
        child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()));
        child.once('exit', (code) => reject(new Error(`the stand-in ended with ${code}`)));
      });
      const post = (where: string, body: unknown) =>
        fetch(where, { method: 'POST', body: JSON.stringify(body) }).then((response) => response.status);
      const input = { model: 'm', input: ['one', 'two'] };
      expect(await post(`${baseUrl}/embeddings`, input)).toBe(200);
      expect(await post(`${baseUrl}/embeddings`, input)).toBe(429);
      expect(await post(new URL('/settings', baseUrl).href, { faults: [{ kind: 'server_error' }] })).toBe(200);
      expect(await post(`${baseUrl}/embeddings`, input)).toBe(500);
      const stats = await fetch(new URL('/stats?texts=1', baseUrl)).then((response) => response.json());
      expect(stats as StandinStats).toMatchObject({
        requests: 3,
        rateLimited: 1,
        charged: { texts: 2 },
        texts: { one: 1, two: 1 },
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
    } finally {
      child.kill('SIGKILL');
      await rm(folder, { recursive: true });
    }
  });
});

/** Strips the types, file by file: the stand-in imports nothing but itself and Node. */
async function compile(from: string, to: string): Promise<void> {
  await writeFile(path.join(to, 'package.json'), '{"type":"module"}');
  for (const name of await readdir(from)) {
    const source = await readFile(path.join(from, name), 'utf8');
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 };
    await writeFile(path.join(to, name.replace(/\.ts$/, '.js')), ts.transpile(source, compilerOptions));
  }
}
