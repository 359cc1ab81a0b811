import type { Gate } from '../../catalog/migration.js';
import type { Space } from '../../catalog/space.js';
import type { LabelledScores } from './labelled.js';

/** Everything that is known of a move from one model to another, as data that JSON can hold. */
export interface EvalReport {
  readonly source: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  /** Neighbours that are compared. */
  readonly k: number;
  /** hnsw.ef_search of everything but the curve. */
  readonly efSearch: number;
  readonly rows: number;
  readonly from: SpaceReport;
  readonly to: SpaceReport;
  readonly gates: readonly Gate[];
  /** Of the new space; undefined where it has no index that answers. */
  readonly recall: RecallReport | undefined;
  /** Rows whose neighbours were compared, by how many of k both models have: length k + 1. */
  readonly overlap: { readonly rows: number; readonly mean: number | null; readonly counts: readonly number[] };
  /** Undefined where no labelled queries were given, or they could not be asked. */
  readonly labelled: LabelledScores | undefined;
}

export interface SpaceReport {
  readonly model: string;
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly type: Space['type'];
  readonly metric: Space['metric'];
  readonly store: Space['store'];
  readonly state: Space['state'];
  readonly latency: Latency;
  /** Distances of the k nearest rows. */
  readonly distances: Histogram;
}

/** Of the search statement, in ms, without the embedding of the query. */
export interface Latency {
  readonly searches: number;
  readonly p50: number | null;
  readonly p95: number | null;
}

/** Counts of equally wide bins from `low` to `high`. */
export interface Histogram {
  readonly low: number;
  readonly high: number;
  readonly counts: readonly number[];
}

export interface RecallReport {
  readonly queries: number;
  readonly exactP50: number | null;
  readonly points: readonly { readonly efSearch: number; readonly recall: number; readonly p50: number | null }[];
}

/** `low` and `high` are those of the values; a single value stands in the first bin. */
export function histogram(values: readonly number[], bins: number): Histogram {
  if (values.length === 0) return { low: 0, high: 0, counts: new Array<number>(bins).fill(0) };
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const bin = high === low ? 0 : Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return { low, high, counts };
}
