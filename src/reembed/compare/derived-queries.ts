import { seededRandom, shuffled } from '../eval/random.js';

/** A row of the sample. */
export interface SampledText {
  readonly key: string;
  readonly text: string;
}

/** A query, and the keys of the sample that answer it. */
export interface KnownItem {
  readonly query: string;
  readonly relevant: ReadonlySet<string>;
}

export const HOW_DERIVED =
  'one sentence of a row, or half of its words in their order where it has only one, must find that row and any other ' +
  'that holds the same words: this compares how well models find what a text says literally, not how people ask';

const LEAST_WORDS = 3;
/** A longer sentence is nearly the row itself, and found by any model. */
const MOST_WORDS = 16;

/**
 * Queries for a sample that nobody has labelled, at most `count`, each from a row of its own; the seed decides which.
 * Rows of fewer than 6 words give none.
 */
export function deriveQueries(texts: readonly SampledText[], count: number, seed: number): KnownItem[] {
  const random = seededRandom(seed);
  const folded = texts.map(({ key, text }) => ({ key, text: fold(text) }));
  const queries = new Map<string, KnownItem>();
  for (const { text } of shuffled(texts, random)) {
    if (queries.size >= count) break;
    const found = queryOf(text, random);
    if (found === undefined || queries.has(found.query)) continue;
    const whole = fold(text);
    const part = fold(found.query);
    const relevant = folded.filter((row) => row.text === whole || (found.literal && row.text.includes(part)));
    queries.set(found.query, { query: found.query, relevant: new Set(relevant.map(({ key }) => key)) });
  }
  return [...queries.values()];
}

interface Found {
  readonly query: string;
  /** Its words stand in the text one after the other. */
  readonly literal: boolean;
}

function queryOf(text: string, random: () => number): Found | undefined {
  const sentences = text
    .split(/(?<=[.!?。！？])\s+|\n+/u)
    .map((sentence) => sentence.trim().split(/\s+/))
    .filter((words) => words.length >= LEAST_WORDS);
  if (sentences.length > 1) {
    const words = sentences[Math.floor(random() * sentences.length)] ?? [];
    return { query: words.slice(0, MOST_WORDS).join(' '), literal: true };
  }
  const words = text.trim().split(/\s+/);
  if (words.length < 2 * LEAST_WORDS) return undefined;
  const half = words.filter((_, i) => i % 2 === 0).slice(0, MOST_WORDS);
  return { query: half.join(' '), literal: false };
}

function fold(text: string): string {
  return text.toLowerCase().replaceAll(/\s+/g, ' ').trim();
}
