import { setImmediate as nextTurn } from 'node:timers/promises';
import type { LongText, LongTexts } from '../catalog/long-texts.js';
import { partsOf, tellingOf } from './cut.js';
import { type EmbedAllOptions, embedAll, type TextOutcome } from './embed-all.js';
import { aboutTokens, isTooLong, type Ruler } from './fit.js';
import { weightedMean } from './mean.js';
import { type EmbeddingModel, EmbedError, type TooLong } from './port.js';

/** What became of a text of any length. */
export type LongOutcome =
  | { readonly vector: Float32Array; readonly long?: LongText | undefined }
  /** Longer than the model takes, and nothing is to be made of it, or nothing could be. */
  | { readonly refused: { readonly tokens: number; readonly maxTokens: number | undefined } }
  | Exclude<TextOutcome, { readonly vector: Float32Array }>;

/** Vectors of pieces of long texts that were paid for before. Neither may throw; a piece that is not there is paid for. */
export interface PieceCache {
  read(pieces: readonly Piece[]): Promise<ReadonlyMap<string, Float32Array>>;
  write(pieces: readonly (Piece & { readonly vector: Float32Array })[]): Promise<void>;
}

/** A part of a text, or what was left when its end was cut off. */
export interface Piece {
  readonly text: string;
  readonly piece: string;
}

export interface EmbedLongOptions extends EmbedAllOptions {
  readonly longTexts: LongTexts;
  readonly pieces?: PieceCache | undefined;
}

/** Tries with ever shorter pieces: from a bad estimate it takes one or two, where the provider does not say its limit a few. */
const MOST_TRIES = 12;
/** Of the pieces that the provider refused, the part that is tried next: where it named its limit, and where it did not. */
const SHORTER = { named: 0.97, unnamed: 0.7, most: 0.9 };
/** Work between two turns of the event loop: a text may have a thousand pieces. */
const SLICE_MS = 5;
const MOST_INT = 2_147_483_647;

/**
 * `embedAll` for texts that may be longer than the model takes, which are refused, truncated or embedded in pieces, as is
 * chosen. Which are too long is told by the model's tokeniser or by an estimate that leaves no doubt; in doubt the
 * provider is asked, and what it refuses as too long is treated alike. Throws what `embedAll` throws.
 */
export async function embedLong(
  model: EmbeddingModel,
  texts: readonly string[],
  options: EmbedLongOptions,
): Promise<{ readonly outcomes: LongOutcome[]; readonly tokens: number }> {
  const run = new LongRun(model, { ...options, countTokens: remembering(model) });
  await run.all([...new Set(texts)]);
  return { outcomes: texts.map((text) => run.outcomeOf(text)), tokens: run.tokens };
}

/** One text on its way. */
interface Job {
  readonly text: string;
  /** What is sent for it: the text itself while it is not known to be too long. */
  pieces: string[];
  how: 'whole' | LongText['how'];
  /** Counted tokens that a piece may have. */
  maxTokens: number;
  /** Tokens that the model takes of one text; undefined once it refused this one without naming its limit. */
  limit: number | undefined;
  /** Nobody knows whether the pieces are short enough: the first goes ahead, lest all of them are refused one by one. */
  probing: boolean;
  tries: number;
}

type Failed = Exclude<TextOutcome, { readonly vector: Float32Array }>;
const UNKNOWN: Failed = { delayed: 0, failure: 'unavailable' };

function toSend({ pieces, probing }: Job): readonly string[] {
  return probing ? pieces.slice(0, 1) : pieces;
}

class LongRun {
  tokens = 0;
  private readonly outcomes = new Map<string, LongOutcome>();
  /** By piece, from the provider or the cache. */
  private readonly vectors = new Map<string, Float32Array>();

  constructor(
    private readonly model: EmbeddingModel,
    private readonly options: EmbedLongOptions & { readonly countTokens: (text: string) => number },
  ) {}

  outcomeOf(text: string): LongOutcome {
    return this.outcomes.get(text) ?? UNKNOWN;
  }

  async all(texts: readonly string[]): Promise<void> {
    const { model } = this;
    let open: Job[] = [];
    for (const text of texts) {
      const limit = model.limits.maxTokensPerInput;
      const job: Job = { text, pieces: [text], how: 'whole', maxTokens: limit, limit, probing: false, tries: 0 };
      if (!isTooLong(this.ruler, text) || (await this.cut(job))) open.push(job);
    }
    while (open.length > 0) {
      const failures = await this.embedPieces(open);
      const again: Job[] = [];
      for (const job of open) if (await this.goesOn(job, failures)) again.push(job);
      open = again;
    }
  }

  /** Remembers what it counted; not for the beginnings that `fitting` tries. */
  private get ruler(): Ruler {
    const { fit, limits } = this.model;
    return { limits, countTokens: this.options.countTokens, ...(fit && { fit }) };
  }

  /** Makes pieces of a text that is too long; false where that is not wanted, or cannot be, and the text is refused. */
  private async cut(job: Job): Promise<boolean> {
    const { longTexts } = this.options;
    if (longTexts === 'refuse' || job.maxTokens < 1 || job.tries > MOST_TRIES) {
      this.refuse(job);
      return false;
    }
    job.how = longTexts;
    const parts: string[] = [];
    let sliceStart = performance.now();
    for (const part of partsOf(this.model, job.text, longTexts, job.maxTokens)) {
      parts.push(part);
      if (performance.now() - sliceStart < SLICE_MS) continue;
      await nextTurn();
      this.options.signal?.throwIfAborted();
      sliceStart = performance.now();
    }
    job.pieces = tellingOf(parts);
    return true;
  }

  private refuse({ text, limit }: Job): void {
    this.outcomes.set(text, { refused: { tokens: aboutTokens(this.ruler, text), maxTokens: limit } });
  }

  /** Embeds what is not embedded yet; resolves to why a piece has no vector. */
  private async embedPieces(jobs: readonly Job[]): Promise<Map<string, Failed>> {
    const { pieces: cache, signal } = this.options;
    const items = jobs.flatMap((job) => toSend(job).map((piece) => ({ text: job.text, piece, how: job.how })));
    const long = items.filter(({ how, piece }) => how !== 'whole' && !this.vectors.has(piece));
    if (long.length > 0) for (const [piece, vector] of (await cache?.read(long)) ?? []) this.vectors.set(piece, vector);
    const wanted = [...new Set(items.map(({ piece }) => piece))].filter((piece) => !this.vectors.has(piece));
    const failed = new Map<string, Failed>();
    const apart = new Set(items.filter(({ text }) => this.options.apart?.has(text)).map(({ piece }) => piece));
    try {
      const { outcomes, tokens } = await embedAll(this.model, wanted, { ...this.options, apart });
      this.tokens += tokens;
      for (const [i, piece] of wanted.entries()) {
        const outcome = outcomes[i] ?? UNKNOWN;
        if ('vector' in outcome) this.vectors.set(piece, outcome.vector);
        else failed.set(piece, outcome);
      }
    } catch (error) {
      signal?.throwIfAborted();
      // What was paid for in an earlier round is kept; the next call meets the failure again.
      if (this.vectors.size === 0) throw error;
      const failure = error instanceof EmbedError ? error.failure : 'unavailable';
      for (const piece of wanted) failed.set(piece, { delayed: 0, failure });
    }
    const sent = new Set(wanted);
    const paid = long.flatMap(({ text, piece }) => {
      const vector = sent.has(piece) ? this.vectors.get(piece) : undefined;
      return vector ? [{ text, piece, vector }] : [];
    });
    if (paid.length > 0) await cache?.write(paid);
    return failed;
  }

  /** Notes what became of a text; true where there is more to be sent for it: shorter pieces, or what follows the first. */
  private async goesOn(job: Job, failures: ReadonlyMap<string, Failed>): Promise<boolean> {
    const sent = toSend(job);
    const failed = sent.filter((piece) => !this.vectors.has(piece));
    const outcomes = failed.map((piece) => ({ piece, outcome: failures.get(piece) ?? UNKNOWN }));
    for (const { piece, outcome } of outcomes) {
      if (!('rejected' in outcome) || !outcome.tooLong) continue;
      this.shorten(job, piece, outcome.tooLong);
      return this.cut(job);
    }
    const worst = outcomes.find(({ outcome }) => 'rejected' in outcome) ?? outcomes[0];
    if (!worst && sent.length < job.pieces.length) {
      job.probing = false;
      return true;
    }
    this.outcomes.set(job.text, worst?.outcome ?? this.combine(job));
    return false;
  }

  /** By what the provider said of a piece: its limit and the piece's tokens where it named them, else just less than before. */
  private shorten(job: Job, piece: string, { maxTokens, tokens }: TooLong): void {
    const sent = this.options.countTokens(piece);
    const next = () => {
      if (maxTokens === undefined) return sent * SHORTER.unnamed;
      return tokens === undefined ? maxTokens : ((sent * maxTokens) / tokens) * SHORTER.named;
    };
    const before = job.how === 'whole' ? sent : Math.min(sent, job.maxTokens);
    job.limit = maxTokens;
    job.maxTokens = Math.floor(Math.min(next(), before * SHORTER.most));
    job.probing = true;
    job.tries += 1;
  }

  private combine(job: Job): LongOutcome {
    const vectors = job.pieces.flatMap((piece) => this.vectors.get(piece) ?? []);
    const [first] = vectors;
    if (job.how === 'whole' && first) return { vector: first };
    const weights = job.pieces.map((piece) => this.options.countTokens(piece));
    const vector = vectors.length === 1 ? first : weightedMean(vectors, weights);
    if (!vector) return { rejected: `the vectors of the text's ${vectors.length} pieces cancel each other out` };
    const long: LongText = {
      how: job.how === 'truncate' ? 'truncate' : 'chunk',
      tokens: aboutTokens(this.ruler, job.text),
      maxTokens: Math.min(job.limit ?? job.maxTokens, MOST_INT),
      pieces: job.pieces.length,
    };
    return { vector, long };
  }
}

/** Counting takes time for long texts, and each is asked for several times. */
function remembering(model: EmbeddingModel): (text: string) => number {
  const known = new Map<string, number>();
  return (text) => {
    const tokens = known.get(text) ?? model.countTokens(text);
    known.set(text, tokens);
    return tokens;
  };
}
