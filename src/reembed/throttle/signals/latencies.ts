/** Weight of the newest reading: half of a change is seen after two readings. */
const NEWEST = 0.3;

/** An exponentially weighted mean. */
export class Smoothed {
  #mean: number | undefined;

  /** Resolves to the mean with this reading. */
  add(value: number): number {
    this.#mean = this.#mean === undefined ? value : this.#mean + NEWEST * (value - this.#mean);
    return this.#mean;
  }
}

const ENOUGH = 5;
const KEPT = 100;

/** What something takes while the backfill rests: the median of the last readings made then. */
export class Baseline {
  readonly #readings: number[] = [];

  add(ms: number): void {
    this.#readings.push(ms);
    if (this.#readings.length > KEPT) this.#readings.shift();
  }

  /** Undefined until there are enough readings. */
  ms(): number | undefined {
    if (this.#readings.length < ENOUGH) return undefined;
    const sorted = [...this.#readings].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
  }
}
