import type { Metric } from '../../catalog/space.js';

/** Vectors with their keys, one model's. */
export interface Collection {
  readonly keys: readonly string[];
  /** All of one length. */
  readonly vectors: readonly Float32Array[];
}

/** Keys of the k nearest vectors, nearest first: every vector is compared, as pgvector's operators do. */
export function nearest({ keys, vectors }: Collection, query: Float32Array, k: number, metric: Metric): string[] {
  const found = vectors.map((vector, i) => ({ key: keys[i] ?? '', distance: distanceOf(metric, vector, query) }));
  // A stable order for equal distances, so that a run can be repeated.
  found.sort((a, b) => a.distance - b.distance || (a.key < b.key ? -1 : 1));
  return found.slice(0, k).map(({ key }) => key);
}

/** Cosine distance, L2 distance squared, or negative inner product: what orders vectors as the operator does. */
function distanceOf(metric: Metric, a: Float32Array, b: Float32Array): number {
  let product = 0;
  let left = 0;
  let right = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    product += x * y;
    left += x * x;
    right += y * y;
  }
  if (metric === 'ip') return -product;
  if (metric === 'l2') return left + right - 2 * product;
  return 1 - product / Math.sqrt(left * right);
}
