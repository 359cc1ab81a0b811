import type { Ask } from './answer.js';
import { type Answer, errorAnswer } from './faults.js';

/** Checks a request as OpenAI does: what is asked and its tokens, or the 400 that it gets. */
export function readAsk(
  body: string,
  poison: string,
  bytesPerToken: number,
  limits: { readonly dimensions?: number; readonly maxInputs?: number; readonly maxTokensPerInput?: number },
): { readonly ask: Ask; readonly tokens: number } | Answer {
  const { maxInputs = 2048, maxTokensPerInput = 8191 } = limits;
  const { model, input, encoding_format: format = 'float', dimensions = limits.dimensions ?? 64 } = parse(body);
  const texts = typeof input === 'string' ? [input] : input;
  if (typeof model !== 'string') return bad('model', 'you must provide a model parameter');
  if (!isTexts(texts) || texts.length === 0) return bad('input', "'$.input' is invalid");
  if (texts.length > maxInputs) return bad('input', `at most ${maxInputs} inputs`);
  if (format !== 'float' && format !== 'base64') return bad('encoding_format', 'float or base64');
  if (!isCount(dimensions)) return bad('dimensions', 'not a number of dimensions');
  // A provider may quote what it was sent: this one always does, so that a leak shows.
  const poisoned = poison === '' ? undefined : texts.find((text) => text.includes(poison));
  if (poisoned !== undefined) return bad('input', `this text is not welcome: ${poisoned}`);
  let tokens = 0;
  for (const text of texts) {
    const count = Math.max(1, Math.ceil(Buffer.byteLength(text) / bytesPerToken));
    if (text === '') return bad('input', 'input cannot be an empty string');
    if (count > maxTokensPerInput) {
      const limit = `This model's maximum context length is ${maxTokensPerInput} tokens`;
      return bad('input', `${limit}, however you requested ${count} tokens (${count} in your prompt): ${text}`);
    }
    tokens += count;
  }
  return { ask: { model, texts, format, dimensions }, tokens };
}

function parse(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((text) => typeof text === 'string');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 16_000;
}

function bad(param: string, message: string): Answer {
  return errorAnswer(400, { message, type: 'invalid_request_error', param });
}
