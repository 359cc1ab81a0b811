import { seededRandom } from './random.js';

/** How well one list of answers does, each 0 to 1. */
export interface Scores {
  readonly recall: number;
  readonly ndcg: number;
}

/** A mean, and the interval that holds it with 95 % confidence. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Recall@k and nDCG@k of answers, best first, where an answer is relevant or not.
 *
 * Recall@k is the part of the relevant keys among the first k, of at most k of them, so that 1 can be reached.
 * nDCG@k = DCG / ideal DCG, DCG = sum of 1 / log2(rank + 1) over the relevant answers (Järvelin and Kekäläinen 2002).
 * NaN where nothing is relevant.
 */
export function scoreAnswers(answers: readonly string[], relevant: ReadonlySet<string>, k: number): Scores {
  const reachable = Math.min(relevant.size, k);
  let found = 0;
  let gain = 0;
  for (const [i, key] of [...new Set(answers)].slice(0, k).entries()) {
    if (!relevant.has(key)) continue;
    found += 1;
    gain += discount(i);
  }
  let ideal = 0;
  for (let i = 0; i < reachable; i++) ideal += discount(i);
  return { recall: found / reachable, ndcg: gain / ideal };
}

/** Of the answer at this place, the first being 0. */
function discount(place: number): number {
  return 1 / Math.log2(place + 2);
}

const RESAMPLES = 2000;

/**
 * The mean of the values with its percentile bootstrap interval of 95 % (Efron and Tibshirani 1993, chapter 13): 2,000
 * samples drawn with replacement. For differences of paired values it is the paired bootstrap. The seed decides the draws.
 */
export function bootstrap(values: readonly number[], seed = 1): Interval {
  if (values.length === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN };
  const random = seededRandom(seed);
  const means = new Float64Array(RESAMPLES);
  for (let r = 0; r < RESAMPLES; r++) {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[Math.floor(random() * values.length)] as number;
    means[r] = sum / values.length;
  }
  means.sort();
  return { mean: meanOf(values), low: quantile(means, 0.025), high: quantile(means, 0.975) };
}

/** NaN of no values. */
export function meanOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] as number;
  return sum / values.length;
}

/** Linear between the two nearest of the sorted values (Hyndman and Fan's type 7); NaN of none. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}
