import { setImmediate as nextTurn } from 'node:timers/promises';
import { fingerprint, type ModelSpec } from '../../catalog/model.js';
import { type EmbeddingModel, EmbedError } from '../port.js';
import { estimateTokens } from '../tokens.js';
import { ROW_LENGTH, readStaticFiles, type StaticFiles } from './static-files.js';
import { createWordTokens, isBreak, standsAlone, type TokenIds } from './static-tokens.js';

/** Work between two turns of the event loop. */
const SLICE_MS = 5;

/** A text of any length is taken in pieces of about this many UTF-16 units, so that a long one keeps the slice too. */
const PIECE_LENGTH = 8192;

/** Chinese and Japanese, URLs and lists may go on without a space: from this length on they are cut elsewhere too. */
const LONG_WORD = 256;

/**
 * The bundled model: the mean of the token vectors, scaled to length 1. Runs in this process in slices of 5 ms.
 * A text without a token that the model knows is `input_rejected`: its vector would be all zero, which has no cosine
 * distance to anything and cannot be indexed.
 */
export async function openStatic(model: ModelSpec): Promise<EmbeddingModel> {
  const files = await readStaticFiles(model.name);
  const tokensOf = createWordTokens(files.tokenizer, files.skipTokenIds);
  return {
    spec: model.spec,
    fingerprint: fingerprint(model, { revision: files.revision, normalised: true }),
    dimensions: model.dimensions,
    limits: { maxInputs: 512, maxTokensPerInput: Number.MAX_SAFE_INTEGER, maxTokensPerRequest: 65_536 },
    countTokens: estimateTokens,
    close: async () => {},
    async embed(texts, { signal }) {
      const pool = new Pool(files, tokensOf, model.dimensions);
      const vectors: Float32Array[] = [];
      let sliceStart = performance.now();
      for (const text of texts) {
        for (let from = 0; from < text.length; ) {
          from = pool.add(text, from);
          if (performance.now() - sliceStart < SLICE_MS) continue;
          await nextTurn();
          signal?.throwIfAborted();
          sliceStart = performance.now();
        }
        const vector = pool.take();
        if (vector === undefined) {
          throw new EmbedError('input_rejected', `the text has no token that ${model.spec} knows`);
        }
        vectors.push(vector);
      }
      return { vectors, tokens: pool.tokens };
    },
  };
}

/** Sums up the token vectors of one text after the other. The mean needs no division: scaling to length 1 undoes it. */
class Pool {
  /** Tokens of all texts so far. */
  tokens = 0;
  private readonly sum: Float64Array;

  constructor(
    private readonly files: StaticFiles,
    private readonly tokensOf: TokenIds,
    private readonly dimensions: number,
  ) {
    this.sum = new Float64Array(dimensions);
  }

  /** Adds the words from `from` on, about PIECE_LENGTH units of them; returns where the rest begins. */
  add(text: string, from: number): number {
    const enough = from + PIECE_LENGTH;
    let start = from;
    for (let i = from; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      const between = isBreak(unit);
      if (!between && !(i - start >= LONG_WORD && standsAlone(unit))) continue;
      if (i > start) this.addWord(text.slice(start, i));
      start = between ? i + 1 : i;
      if (start >= enough) return start;
    }
    if (start < text.length) this.addWord(text.slice(start));
    return text.length;
  }

  /** The finished vector of the text, and a clean slate; undefined if nothing was added. */
  take(): Float32Array | undefined {
    const { sum, dimensions } = this;
    let squares = 0;
    for (let i = 0; i < dimensions; i++) squares += (sum[i] as number) ** 2;
    if (squares === 0) return undefined;
    const factor = 1 / Math.sqrt(squares);
    const vector = new Float32Array(dimensions);
    for (let i = 0; i < dimensions; i++) vector[i] = (sum[i] as number) * factor;
    sum.fill(0);
    return vector;
  }

  private addWord(word: string): void {
    const { sum, dimensions } = this;
    const { table, scale } = this.files;
    for (const id of this.tokensOf(word)) {
      const row = id * ROW_LENGTH;
      const factor = scale[id] as number;
      for (let i = 0; i < dimensions; i++) sum[i] = (sum[i] as number) + (table[row + i] as number) * factor;
      this.tokens++;
    }
  }
}
