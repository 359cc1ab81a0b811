import type { Metric } from '../../catalog/space.js';

/** Vectors of one model with their keys. */
export interface Collection {
  readonly keys: readonly string[];
  /** All of one length. */
  readonly vectors: readonly Float32Array[];
  /** The sum of squares of each vector. */
  readonly squares: Float64Array;
}

export function collectionOf(rows: readonly { readonly key: string; readonly vector: Float32Array }[]): Collection {
  const vectors = rows.map(({ vector }) => vector);
  return { keys: rows.map(({ key }) => key), vectors, squares: Float64Array.from(vectors, (v) => product(v, v)) };
}

/** Keys of the k nearest vectors, nearest first: every vector is compared, as pgvector's operators do. */
export function nearest(collection: Collection, query: Float32Array, k: number, metric: Metric): string[] {
  const { keys, vectors, squares } = collection;
  const own = product(query, query);
  const found = vectors.map((vector, i) => {
    const square = squares[i] ?? 0;
    return { key: keys[i] ?? '', distance: distanceOf(metric, product(vector, query), square, own) };
  });
  // A stable order for equal distances, so that a run can be repeated.
  found.sort((a, b) => a.distance - b.distance || (a.key < b.key ? -1 : 1));
  return found.slice(0, k).map(({ key }) => key);
}

/** Cosine distance, L2 distance squared, or negative inner product: what orders vectors as the operator does. */
function distanceOf(metric: Metric, inner: number, left: number, right: number): number {
  if (metric === 'ip') return -inner;
  if (metric === 'l2') return left + right - 2 * inner;
  return 1 - inner / Math.sqrt(left * right);
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
