const FIRST_LEVEL = 4;
/** Latency may grow to so many times of what it is at best before the level falls. */
const HELD = 2;
/** How fast the best latency is forgotten, so that a provider that became slower for good is not held back for ever. */
const FORGET = 1.001;
/** A volley of refusals is one. */
const HALVE_EVERY_MS = 1000;

/**
 * How many requests may be under way at once: one more each time as many as there are now were answered in good time,
 * a tenth fewer where answers take twice as long as at best, half after a refusal (AIMD).
 */
export class Concurrency {
  private value = FIRST_LEVEL;
  /** By size: requests of a few tokens and of many are not compared. */
  private readonly bestMs = new Map<number, number>();
  private halvedAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly most: number) {
    this.value = Math.min(FIRST_LEVEL, most);
  }

  /** At least 1. */
  get level(): number {
    return Math.floor(this.value);
  }

  /** `full`: as many requests as the level allows were under way; else an answer tells nothing about more of them. */
  answered(ms: number, full: boolean, tokens: number): void {
    const size = Math.ceil(Math.log2(tokens + 1));
    const best = Math.min((this.bestMs.get(size) ?? Number.POSITIVE_INFINITY) * FORGET, ms);
    this.bestMs.set(size, best);
    if (ms > best * HELD) this.value = Math.max(1, this.value * (1 - 0.1 / this.value));
    else if (full) this.value = Math.min(this.most, this.value + 1 / this.value);
  }

  refused(): void {
    const now = performance.now();
    if (now - this.halvedAt < HALVE_EVERY_MS) return;
    this.halvedAt = now;
    this.value = Math.max(1, this.value / 2);
  }
}
