import type { EmbedLimits } from './port.js';

/**
 * Splits items into requests that keep within the limits.
 * @param lengths tokens of each item
 * @returns the items' indices, request by request: each index once, no request empty; ascending, or from the longest item
 *   to the shortest where like lengths go together
 *
 * An item that is over a limit by itself goes alone: the lengths are estimates, so the provider has the last word, and
 * its refusal then blames nobody else.
 */
export function planBatches(lengths: readonly number[], limits: EmbedLimits): number[][] {
  const batches: number[][] = [];
  let batch: number[] = [];
  let tokens = 0;
  const close = () => {
    if (batch.length > 0) batches.push(batch);
    batch = [];
    tokens = 0;
  };
  const order = [...lengths.keys()];
  if (limits.likeLengths) order.sort((a, b) => (lengths[b] ?? 0) - (lengths[a] ?? 0));
  for (const index of order) {
    const length = lengths[index] ?? 0;
    const tooLong = length > limits.maxTokensPerInput;
    if (tooLong || batch.length >= limits.maxInputs || tokens + length > limits.maxTokensPerRequest) close();
    batch.push(index);
    tokens += length;
    if (tooLong) close();
  }
  close();
  return batches;
}
