import { createCipheriv, createHash } from 'node:crypto';

/** The vector of a text under a seed: Float32Array of length `dimensions`, unit length. 40 µs for 1,536 dimensions. */
export function standinVector(text: string, dimensions: number, seed = 0): Float32Array {
  const digest = createHash('sha256').update(`${seed}:${text}`).digest();
  const stream = createCipheriv('aes-128-ctr', digest.subarray(0, 16), digest.subarray(16));
  const bits = stream.update(Buffer.alloc(dimensions * 4));
  const vector = new Float32Array(dimensions);
  let squares = 0;
  for (let i = 0; i < dimensions; i++) {
    const x = (bits.readInt32LE(i * 4) + 0.5) / 2 ** 31; // Never 0.
    vector[i] = x;
    squares += x * x;
  }
  const scale = 1 / Math.sqrt(squares);
  return vector.map((x) => x * scale);
}

/** As the API sends it: little-endian float32 in base64. */
export function toBase64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64');
}

/** Numbers in [0, 1) that depend on the seed and on how many were drawn before. */
export function seededRandom(seed: number): () => number {
  let drawn = 0;
  return () => createHash('sha256').update(`${seed}/${drawn++}`).digest().readUInt32LE(0) / 2 ** 32;
}
