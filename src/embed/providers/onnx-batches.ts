/** Padded tokens of one inference. More are slower, per token, on a CPU: attention falls out of its caches. */
const MAX_TOKENS = 512;

/** Share of padding in one inference beyond which a text goes into the next. */
const MAX_PADDING = 0.15;

/**
 * Splits the texts of a request into inferences of like length: longest first, each padded to its longest.
 * @param lengths tokens of each text, at least 1
 * @returns indices of the texts, inference by inference; each index once, none empty
 *
 * Measured with MiniLM (int8) on 2 cores, in tokens per ms: 8 × 64: 32, 32 × 64: 28, 4 × 128: 29, 32 × 128: 25.
 */
export function planInferences(lengths: readonly number[]): number[][] {
  const order = lengths.map((_, index) => index).sort((a, b) => lengthAt(b) - lengthAt(a));
  const batches: number[][] = [];
  let batch: number[] = [];
  let tokens = 0;
  for (const index of order) {
    const width = lengthAt(batch[0] ?? index);
    const padded = width * (batch.length + 1);
    const padding = padded - tokens - lengthAt(index);
    if (batch.length > 0 && (padded > MAX_TOKENS || padding > padded * MAX_PADDING)) {
      batches.push(batch);
      batch = [];
      tokens = 0;
    }
    batch.push(index);
    tokens += lengthAt(index);
  }
  if (batch.length > 0) batches.push(batch);
  return batches;

  function lengthAt(index: number): number {
    return lengths[index] as number;
  }
}
