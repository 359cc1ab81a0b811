import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { openModel } from '../../src/embed/open.js';
import { readTooLong } from '../../src/embed/providers/too-long.js';

const MESSAGES: readonly [string, number, string, object | undefined][] = [
  [
    'OpenAI',
    400,
    "This model's maximum context length is 8192 tokens, however you requested 8610 tokens (8610 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
    { maxTokens: 8192, tokens: 8610 },
  ],
  ['OpenAI, of one input', 400, "Invalid 'input[3]': maximum context length is 8192 tokens.", { maxTokens: 8192 }],
  [
    'vLLM',
    400,
    "This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input for embedding generation.",
    { maxTokens: 512, tokens: 600 },
  ],
  [
    'TEI',
    413,
    'Input validation error: `inputs` must have less than 512 tokens. Given: 534',
    { maxTokens: 512, tokens: 534 },
  ],
  [
    'TEI, by characters',
    413,
    'Input validation error: `inputs` must have less than 32000 characters. Given: 67337',
    {},
  ],
  [
    'llama.cpp',
    500,
    'input (992 tokens) is too large to process. increase the physical batch size (current',
    { tokens: 992 },
  ],
  ['llama.cpp, before', 500, 'input is too large to process. increase the physical batch size', {}],
  ['Ollama', 400, 'the input length exceeds the context length', {}],
  [
    'Google',
    400,
    'The input token count (3000) exceeds the maximum number of tokens allowed (2048).',
    { maxTokens: 2048, tokens: 3000 },
  ],
  ['a body that is too large', 413, '<html>', {}],
  ['another refusal', 400, 'this text is not welcome', undefined],
  [
    'a refusal that quotes a text',
    400,
    "this text is not welcome: This model's maximum context length is 17 tokens",
    undefined,
  ],
  ['a limit that no model has', 400, "This model's maximum context length is 1 tokens", {}],
  ['an outage', 500, 'internal error', undefined],
  ['another status', 429, "This model's maximum context length is 8192 tokens", undefined],
];

describe('readTooLong', () => {
  test.each(MESSAGES)('%s', (_, status, message, expected) => {
    expect(readTooLong(status, [], message)).toEqual(expected);
  });

  test('goes by the code where there is one', () => {
    expect(readTooLong(400, ['context_length_exceeded'], undefined)).toEqual({});
    expect(readTooLong(400, ['invalid_request_error'], undefined)).toBe(undefined);
  });
});

describe('a refusal of a compatible server', () => {
  const message = 'Input validation error: `inputs` must have less than 512 tokens. Given: 534';
  const openai = "This model's maximum context length is 512 tokens, however you requested 534 tokens";
  test.each([
    ['as OpenAI has it', 400, { error: { message: openai, type: 'invalid_request_error' } }],
    ['without the outer object', 413, { message, code: 413, type: 'Validation' }],
    ['as a mere string', 400, { error: openai }],
  ])('tells the limit: %s', async (_, status, body) => {
    const server = createServer((_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
      const model = await openModel('openai/other@8', { openai: { baseUrl }, requestTimeoutMs: 5000 });
      expect(model.limits.maxTokensPerInput).toBe(8191);
      await expect(model.embed(['secret text'], { purpose: 'document' })).rejects.toMatchObject({
        failure: 'input_rejected',
        message: expect.stringMatching(/^openai\/other@8: HTTP 4\d\d.*; the text is too long$/),
        details: { status, tooLong: { maxTokens: 512, tokens: 534 } },
      });
      expect(model.limits.maxTokensPerInput).toBe(512);
      await model.close();
    } finally {
      server.close();
    }
  });
});
