import type { OnnxPooling } from '../settings.js';

/** The vectors of all tokens of a batch: row-major, texts × width × dimensions. Texts fill their width from the left. */
export interface TokenVectors {
  readonly data: Float32Array;
  readonly width: number;
  readonly dimensions: number;
}

/**
 * The vector of one text of the batch, written to `out` (length `dimensions`).
 * @param row which text of the batch
 * @param length its tokens, at least 1, padding not counted
 */
export function pool(
  { data, width, dimensions }: TokenVectors,
  row: number,
  length: number,
  how: { readonly pooling: OnnxPooling; readonly normalise: boolean },
  out: Float32Array,
): void {
  const start = row * width * dimensions;
  const [from, to] = how.pooling === 'mean' ? [0, length] : how.pooling === 'cls' ? [0, 1] : [length - 1, length];
  const sums = new Float64Array(dimensions);
  for (let token = from; token < to; token++) {
    const at = start + token * dimensions;
    for (let i = 0; i < dimensions; i++) sums[i] = (sums[i] as number) + (data[at + i] as number);
  }
  let divisor = to - from;
  if (how.normalise) {
    let squares = 0;
    for (let i = 0; i < dimensions; i++) squares += (sums[i] as number) ** 2;
    divisor = Math.sqrt(squares) || 1;
  }
  for (let i = 0; i < dimensions; i++) out[i] = (sums[i] as number) / divisor;
}
