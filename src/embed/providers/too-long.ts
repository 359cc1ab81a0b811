import type { TooLong } from '../port.js';

/**
 * How servers begin to say that a text is too long, with their limit (max) and the text's tokens (seen) where they name
 * them. From the beginning only: further on a message may quote the text, which could say anything.
 */
const MESSAGES: readonly RegExp[] = [
  // OpenAI, Azure, vLLM: "…, however you requested 8610 tokens", ". However, you requested", ". However, your … in 10383"
  /^This model's maximum context length is (?<max>\d+) tokens(?:[,.] however,? you(?: requested|r \w+ resulted in) (?<seen>\d+))?/i,
  /^Invalid '\$?\.?input(?:\[\d+\])?': maximum (?:input|context) length is (?<max>\d+) tokens/i,
  // Hugging Face's Text Embeddings Inference; its limit of characters comes in the same words.
  /^(?:Input validation error: )?`?inputs`? must have less than (?<max>\d+) tokens(?:\. Given: (?<seen>\d+))?/i,
  /^(?:Input validation error: )?`?inputs`? must have less than \d+ characters/i,
  // llama.cpp
  /^input (?:\((?<seen>\d+) tokens\) )?is (?:too large to process|larger than the max context size)/i,
  /^the request (?:\((?<seen>\d+) tokens\) )?exceeds the available context size/i,
  // Ollama
  /^(?:the )?input length exceeds (?:the |maximum )*context length/i,
  // Google
  /^The input token count \((?<seen>\d+)\) exceeds the maximum number of tokens allowed \((?<max>\d+)\)/i,
];

const LABELS = new Set(['context_length_exceeded', 'exceed_context_size_error', 'string_above_max_length']);

/** Less than any model takes: a message that says so speaks of something else. */
const LEAST_LIMIT = 16;

/**
 * What a refusal says of a text that is too long; undefined where it is refused for something else. 413 says no more
 * than that, and of a request with several texts it may be the whole that is too large. llama.cpp answers with 500.
 */
export function readTooLong(status: number, labels: readonly string[], message: unknown): TooLong | undefined {
  if (status !== 400 && status !== 413 && status !== 422 && status !== 500) return undefined;
  const match = typeof message === 'string' ? firstMatch(message) : undefined;
  if (!match) return status === 413 || (status < 500 && labels.some((word) => LABELS.has(word))) ? {} : undefined;
  const max = Number(match.groups?.max);
  const seen = Number(match.groups?.seen);
  return {
    ...(max >= LEAST_LIMIT && { maxTokens: max }),
    ...(seen > 0 && { tokens: seen }),
  };
}

function firstMatch(message: string): RegExpMatchArray | undefined {
  for (const pattern of MESSAGES) {
    const match = pattern.exec(message);
    if (match) return match;
  }
  return undefined;
}
