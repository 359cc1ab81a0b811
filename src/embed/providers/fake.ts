import { setTimeout as sleep } from 'node:timers/promises';
import { fingerprint, type ModelSpec } from '../../catalog/model.js';
import { longestFitting } from '../fit.js';
import { type EmbeddingModel, EmbedError } from '../port.js';
import { estimateTokens } from '../tokens.js';

/** A request with a text that contains this is rejected as a whole, like a provider that dislikes one input. */
export const POISON = '[[poison]]';

/**
 * A model for tests and benches: unit vectors that depend only on name, dimensions and text. Equal texts have equal
 * vectors, any others are unrelated (cosine near 0); no meaning is in them.
 */
export function openFake(model: ModelSpec, latencyMs: number): EmbeddingModel {
  const seed = hash(model.name, 0x9e3779b9);
  return {
    spec: model.spec,
    fingerprint: fingerprint(model, { revision: '1', normalised: true }),
    dimensions: model.dimensions,
    limits: { maxInputs: 2048, maxTokensPerInput: 8191, maxTokensPerRequest: 300_000 },
    countTokens: estimateTokens,
    fit: (text, maxTokens) => longestFitting(text, maxTokens, estimateTokens),
    close: async () => {},
    async embed(texts, { signal }) {
      if (latencyMs > 0) await pause(latencyMs, signal);
      if (texts.some((text) => text.includes(POISON))) {
        throw new EmbedError('input_rejected', `${model.spec} rejects texts that contain its poison mark`);
      }
      const tokens = texts.reduce((sum, text) => sum + estimateTokens(text), 0);
      return { vectors: texts.map((text) => randomUnit(text, seed, model.dimensions)), tokens };
    },
  };
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal && { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** xoroshiro64* (Blackman and Vigna, https://prng.di.unimi.it/xoroshiro64star.c), seeded by two hashes of the text. */
function randomUnit(text: string, seed: number, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  let a = hash(text, seed) | 1; // the state must not be all zero
  let b = hash(text, ~seed);
  let squares = 0;
  for (let i = 0; i < dimensions; i++) {
    const x = Math.imul(a, 0x9e3779bb);
    b ^= a;
    a = ((a << 26) | (a >>> 6)) ^ b ^ (b << 9);
    b = (b << 13) | (b >>> 19);
    vector[i] = x;
    squares += x * x;
  }
  // All components 0 is as good as impossible, yet a vector of one dimension must not be.
  if (squares === 0) return vector.fill(1 / Math.sqrt(dimensions));
  const scale = 1 / Math.sqrt(squares);
  for (let i = 0; i < dimensions; i++) vector[i] = (vector[i] as number) * scale;
  return vector;
}

/** FNV-1a over UTF-16 units, with the finaliser of MurmurHash3; 32 bits. */
function hash(text: string, seed: number): number {
  let h = seed ^ 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
