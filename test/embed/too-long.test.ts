import { describe, expect, test } from 'vitest';
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
