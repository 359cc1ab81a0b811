/** How far from 1 the length of a vector may be for it to count as a unit vector; float16 servers are off by 5e-4. */
const UNIT = 2e-3;
/** A mean shorter than this is what rounding left of vectors that cancel each other out. */
const NOTHING = 1e-6;

/**
 * The mean of vectors of one length, weighted; scaled to length 1 where they all have length 1. Undefined where they
 * cancel each other out, since nothing is near to nothing.
 *
 * OpenAI's cookbook does the same for texts that are too long ("Embedding texts that are longer than the model's maximum
 * context length"): pieces weighted by their tokens, then normalised.
 */
export function weightedMean(vectors: readonly Float32Array[], weights: readonly number[]): Float32Array | undefined {
  const dimensions = vectors[0]?.length ?? 0;
  const sum = new Float64Array(dimensions);
  let total = 0;
  let unit = true;
  for (const [n, vector] of vectors.entries()) {
    const weight = weights[n] ?? 0;
    total += weight;
    unit &&= Math.abs(lengthOf(vector) - 1) < UNIT;
    for (let i = 0; i < dimensions; i++) sum[i] = (sum[i] as number) + weight * (vector[i] as number);
  }
  const length = lengthOf(sum);
  if (!(length / total > NOTHING)) return undefined;
  const scale = unit ? 1 / length : 1 / total;
  return Float32Array.from(sum, (x) => x * scale);
}

function lengthOf(vector: Float32Array | Float64Array): number {
  let squares = 0;
  for (let i = 0; i < vector.length; i++) squares += (vector[i] as number) ** 2;
  return Math.sqrt(squares);
}
