/** A vector as `bytea` holds it: float32 little-endian, which is how this machine's own floats lie in memory. */

/** The bytes of a vector, not copied. */
export function toBytes(vector: Float32Array): Buffer {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
}

/** A vector of its own, of length bytes / 4; undefined where that is no whole number. */
export function fromBytes(bytes: Uint8Array): Float32Array | undefined {
  if (bytes.byteLength % 4 !== 0) return undefined;
  const vector = new Float32Array(bytes.byteLength / 4);
  toBytes(vector).set(bytes);
  return vector;
}

/**
 * 2a·b / (a·a + b·b): the cosine of the angle where both are equally long, less where they are not, so that vectors
 * which merely stopped being normalised differ too. NaN where the lengths in numbers differ, where a component is not
 * finite, and where both are all zero.
 */
export function likeness(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let product = 0;
  let squares = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    product += x * y;
    squares += x * x + y * y;
  }
  return (2 * product) / squares;
}
