import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { openModel } from '../../src/embed/open.js';
import type { EmbeddingModel } from '../../src/embed/port.js';

const KEY = 'sk-very-secret';
const TEXT = 'a private text';
const purpose = 'document' as const;

type Body = { model: string; input: string[]; encoding_format: string; dimensions?: number };
type Handler = (body: Body, response: ServerResponse, request: IncomingMessage) => void;

let server: Server | undefined;

afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
});

async function listen(handler: Handler): Promise<string> {
  const started = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => handler(JSON.parse(Buffer.concat(chunks).toString() || '{}'), response, request));
  });
  server = started;
  await new Promise<void>((resolve) => started.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(started.address() as AddressInfo).port}/v1`;
}

async function open(handler: Handler, spec = 'openai/test@2', requestTimeoutMs = 5000): Promise<EmbeddingModel> {
  return openModel(spec, { openai: { apiKey: KEY, baseUrl: await listen(handler) }, requestTimeoutMs });
}

function json(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

const base64 = (...numbers: number[]) => Buffer.from(Float32Array.from(numbers).buffer).toString('base64');
const item = (index: number, embedding: unknown) => ({ object: 'embedding', index, embedding });
const answer = (...data: unknown[]) => ({ object: 'list', data, usage: { prompt_tokens: 7, total_tokens: 7 } });

describe('openai, when all is well', () => {
  it('charges whole tokens as the server counts them, and its own count where the server counts none', async () => {
    let usage: unknown;
    const model = await open((_body, response) =>
      json(response, 200, { object: 'list', data: [item(0, base64(1, 2))], usage }),
    );
    const charged = async (total: number) => {
      usage = { prompt_tokens: total, total_tokens: total };
      return (await model.embed(['one two three four'], { purpose })).tokens;
    };
    expect(await charged(7.5)).toBe(8);
    for (const useless of [0, -3, 1e20]) {
      const tokens = await charged(useless);
      expect(tokens).toBeGreaterThan(0);
      expect(tokens).toBeLessThan(100);
    }
  });

  it('sends the texts and decodes base64', async () => {
    const seen: { body?: Body; path?: string | undefined; key?: string | undefined } = {};
    const model = await open((body, response, request) => {
      Object.assign(seen, { body, path: request.url, key: request.headers.authorization });
      json(response, 200, answer(item(0, base64(1, 2)), item(1, base64(3, 4))));
    });
    const result = await model.embed(['one', 'two'], { purpose });
    expect(result).toEqual({ vectors: [Float32Array.of(1, 2), Float32Array.of(3, 4)], tokens: 7 });
    expect(seen).toEqual({
      body: { model: 'test', input: ['one', 'two'], encoding_format: 'base64' },
      path: '/v1/embeddings',
      key: `Bearer ${KEY}`,
    });
  });

  it('asks only text-embedding-3 for its dimensions', async () => {
    let asked: number | undefined;
    const model = await open((body, response) => {
      asked = body.dimensions;
      json(response, 200, answer(item(0, base64(1, 2))));
    }, 'openai/text-embedding-3-small@2');
    await model.embed([TEXT], { purpose });
    expect(asked).toBe(2);
  });

  it('takes arrays of numbers, any order, and no usage', async () => {
    const model = await open((_body, response) => {
      json(response, 200, { data: [item(1, [3, 4]), item(0, [1, 2])] });
    });
    const { vectors, tokens } = await model.embed(['four', 'eight888'], { purpose });
    expect(vectors).toEqual([Float32Array.of(1, 2), Float32Array.of(3, 4)]);
    expect(tokens).toBe(3);
  });

  it('takes items without an index as they come', async () => {
    const model = await open((_body, response) => {
      json(response, 200, { data: [{ embedding: [3, 4] }, { embedding: [1, 2] }] });
    });
    const { vectors } = await model.embed(['a', 'b'], { purpose });
    expect(vectors).toEqual([Float32Array.of(3, 4), Float32Array.of(1, 2)]);
  });

  it('needs no key for another server, and sends nothing for no texts', async () => {
    const keys: (string | undefined)[] = [];
    const baseUrl = await listen((_body, response, request) => {
      keys.push(request.headers.authorization);
      json(response, 200, answer(item(0, base64(1, 2))));
    });
    const model = await openModel('openai/test@2', { openai: { baseUrl }, requestTimeoutMs: 5000 });
    await model.embed([TEXT], { purpose });
    expect(await model.embed([], { purpose })).toEqual({ vectors: [], tokens: 0 });
    expect(keys).toEqual([undefined]);
  });

  it('has the same fingerprint wherever it is served', async () => {
    const here = await open(() => {}, 'openai/m@2');
    const there = await openModel('openai/m@2', { openai: { apiKey: KEY }, requestTimeoutMs: 1 });
    expect(here.fingerprint).toBe(there.fingerprint);
  });
});

describe('openai, when the server refuses', () => {
  const soon = () => new Date(Date.now() + 30_000).toUTCString();
  const echo = (code: string | null, type = 'some_type', param: string | null = null) => ({
    error: { message: `the input "${TEXT}" of ${KEY} is wrong`, code, type, param },
  });

  it.each([
    [400, echo(null, 'invalid_request_error'), 'input_rejected'],
    [413, '<html>too large</html>', 'input_rejected'],
    [422, { detail: [TEXT] }, 'input_rejected'],
    [400, echo('model_not_found'), 'configuration'],
    [400, echo(null, 'invalid_request_error', 'dimensions'), 'configuration'],
    [401, echo('invalid_api_key'), 'unauthorised'],
    [402, echo(null), 'quota_exhausted'],
    [403, echo(null), 'unauthorised'],
    [404, echo('model_not_found'), 'configuration'],
    [405, TEXT, 'configuration'],
    [408, '', 'unavailable'],
    [409, '', 'unavailable'],
    // Of TEI: the inference failed.
    [424, TEXT, 'unavailable'],
    [429, echo('rate_limit_exceeded', 'tokens'), 'rate_limited'],
    [429, echo('insufficient_quota', 'insufficient_quota'), 'quota_exhausted'],
    [429, echo('billing_not_active'), 'quota_exhausted'],
    [403, echo('insufficient_quota'), 'quota_exhausted'],
    [500, TEXT, 'unavailable'],
    [503, echo(TEXT), 'unavailable'],
  ])('%i %j is %s, and says no secret', async (status, body, failure) => {
    let calls = 0;
    const model = await open((_body, response) => {
      calls++;
      json(response, status, body);
    });
    const error = await failureOf(model);
    expect(error).toMatchObject({ name: 'EmbedError', failure, details: { status } });
    expect(calls).toBe(1);
    expectNoSecret(error);
  });

  it.each([
    [{ 'retry-after-ms': '1234.5' }, 1235, 1235],
    [{ 'retry-after': '2' }, 2000, 2000],
    [{ 'retry-after': '0.25' }, 250, 250],
    [{ 'retry-after': '9', 'retry-after-ms': '10' }, 10, 10],
    [{ 'retry-after': 'date' }, 28_000, 30_000],
    [{ 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, 0, 0],
  ])('429 with %j waits', async (headers: Record<string, string>, least, most) => {
    const model = await open((_body, response) => {
      const sent = headers['retry-after'] === 'date' ? { 'retry-after': soon() } : headers;
      json(response, 429, echo('rate_limit_exceeded'), sent);
    });
    const { details } = await failureOf(model);
    expect(details.retryAfterMs).toBeGreaterThanOrEqual(least);
    expect(details.retryAfterMs).toBeLessThanOrEqual(most);
  });

  it.each([{}, { 'retry-after': 'soon' }])('429 with %j names no time', async (headers) => {
    const model = await open((_body, response) => json(response, 429, echo(null), headers));
    expect((await failureOf(model)).details).toEqual({ status: 429 });
  });

  it('follows no redirect', async () => {
    const paths: (string | undefined)[] = [];
    const model = await open((_body, response, request) => {
      paths.push(request.url);
      json(response, 307, '', { location: '/elsewhere' });
    });
    expect(await failureOf(model)).toMatchObject({ failure: 'configuration', details: { status: 307 } });
    expect(paths).toEqual(['/v1/embeddings']);
  });
});

describe('openai, when the network fails', () => {
  it('gives up on a server that hangs before or inside its answer', async () => {
    const silent = await open(() => {}, 'openai/test@2', 60);
    expect(await failureOf(silent)).toMatchObject({
      failure: 'unavailable',
      message: expect.stringContaining('60 ms'),
    });
    const halting = await open(
      (_body, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.write('{"data": [');
      },
      'openai/test@2',
      60,
    );
    expect(await failureOf(halting)).toMatchObject({ failure: 'unavailable' });
  });

  it('calls a broken connection unavailable', async () => {
    const model = await open((_body, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
      response.write('{"data": [', () => response.destroy());
    });
    expect(await failureOf(model)).toMatchObject({ failure: 'unavailable' });
  });

  it('calls a closed port unavailable', async () => {
    const settings = { openai: { baseUrl: 'http://127.0.0.1:1/v1' }, requestTimeoutMs: 2000 };
    const error = await failureOf(await openModel('openai/test@2', settings));
    expect(error).toMatchObject({ failure: 'unavailable' });
  });

  it('rejects with the reason of the signal', async () => {
    const controller = new AbortController();
    const reason = new Error('shutting down');
    const model = await open(() => controller.abort(reason));
    await expect(model.embed([TEXT], { purpose, signal: controller.signal })).rejects.toBe(reason);
    await expect(model.embed([TEXT], { purpose, signal: controller.signal })).rejects.toBe(reason);
  });
});

describe('openai, when the answer makes no sense', () => {
  it.each([
    ['not JSON', '{"data": ['],
    ['an empty object', {}],
    ['null', null],
    ['an error with status 200', { error: { message: TEXT } }],
    ['too few', answer(item(0, base64(1, 2)))],
    ['too many', answer(item(0, base64(1, 2)), item(1, base64(1, 2)), item(2, base64(1, 2)))],
    ['a doubled index', answer(item(0, base64(1, 2)), item(0, base64(1, 2)))],
    ['an index out of range', answer(item(0, base64(1, 2)), item(2, base64(1, 2)))],
    ['half of the indices', answer(item(0, base64(1, 2)), { embedding: base64(1, 2) })],
    ['another dimension', answer(item(0, base64(1, 2)), item(1, base64(1, 2, 3)))],
    ['NaN in base64', answer(item(0, base64(1, 2)), item(1, base64(1, Number.NaN)))],
    ['Infinity in base64', answer(item(0, base64(1, 2)), item(1, base64(1, Number.NEGATIVE_INFINITY)))],
    ['all zero', answer(item(0, base64(1, 2)), item(1, base64(0, -0)))],
    ['null among numbers', answer(item(0, [1, 2]), item(1, [1, null]))],
    ['a number too large for float32', answer(item(0, [1, 2]), item(1, [1, 1e39]))],
    ['base64 of odd length', answer(item(0, base64(1, 2)), item(1, 'AAAAAAA='))],
    ['text instead of base64', answer(item(0, base64(1, 2)), item(1, '!!!!!!!!!!!!'))],
  ])('%s is a bad response', async (_name, body) => {
    const model = await open((_body, response) => json(response, 200, body));
    const error = await failureOf(model, [TEXT, 'another']);
    expect(error).toMatchObject({ failure: 'bad_response' });
    expectNoSecret(error);
  });

  it('so is a page of HTML', async () => {
    const model = await open((_body, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<html>welcome</html>');
    });
    expect(await failureOf(model)).toMatchObject({ failure: 'bad_response' });
  });
});

describe('openai, configured wrongly', () => {
  it.each([
    [{}, /OPENAI_API_KEY/],
    [{ apiKey: '' }, /OPENAI_API_KEY/],
    [{ apiKey: KEY, baseUrl: 'localhost:8080' }, /OPENAI_BASE_URL/],
    [{ apiKey: KEY, baseUrl: 'ftp://host/v1' }, /OPENAI_BASE_URL/],
    [{ apiKey: KEY, baseUrl: 'https://user:hunter2@host/v1' }, /user or password/],
  ])('%j is refused before anything is sent', async (openai, message) => {
    const error = await openModel('openai/test@2', { openai, requestTimeoutMs: 100 }).catch(
      (caught: unknown) => caught,
    );
    expect(error).toMatchObject({ failure: 'configuration', message: expect.stringMatching(message) });
    expectNoSecret(error as Error);
  });
});

type Failure = Error & { details: { retryAfterMs?: number; status?: number } };

async function failureOf(model: EmbeddingModel, texts: string[] = [TEXT]): Promise<Failure> {
  return model.embed(texts, { purpose }).then(
    () => Promise.reject(new Error('the call did not fail')),
    (error: Failure) => error,
  );
}

function expectNoSecret(error: Error): void {
  const said = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
  for (const secret of [KEY, TEXT, 'hunter2']) expect(said).not.toContain(secret);
}
