/** What a request weighs. */
export interface Weight {
  readonly requests: number;
  readonly tokens: number;
}

interface Entry extends Weight {
  readonly at: number;
}

/**
 * Requests and tokens of the last `windowMs`, moment by moment: no buckets that refill at the full minute, and no rate
 * that lets a burst pass. Times are ms of a clock that never runs backwards.
 */
export class SlidingWindow {
  /** The most that was ever in one window. */
  readonly peak = { requests: 0, tokens: 0 };
  private entries: Entry[] = [];
  private first = 0;
  private used = { requests: 0, tokens: 0 };

  constructor(
    readonly limits: Weight,
    readonly windowMs: number,
  ) {}

  /** Counts a request and returns undefined, or leaves it uncounted and returns the ms until it would fit. */
  take(weight: Weight, now: number): number | undefined {
    this.slide(now);
    if (!this.fits(weight, this.used)) return this.waitFor(weight, now);
    this.entries.push({ ...weight, at: now });
    this.used.requests += weight.requests;
    this.used.tokens += weight.tokens;
    this.peak.requests = Math.max(this.peak.requests, this.used.requests);
    this.peak.tokens = Math.max(this.peak.tokens, this.used.tokens);
    return undefined;
  }

  /** What is left, and the ms until all is there again. */
  state(now: number): { readonly remaining: Weight; readonly resetMs: number } {
    this.slide(now);
    const last = this.entries.at(-1);
    const remaining = {
      requests: this.limits.requests - this.used.requests,
      tokens: this.limits.tokens - this.used.tokens,
    };
    return { remaining, resetMs: last === undefined ? 0 : Math.max(0, last.at + this.windowMs - now) };
  }

  private fits(weight: Weight, used: Weight): boolean {
    return used.requests + weight.requests <= this.limits.requests && used.tokens + weight.tokens <= this.limits.tokens;
  }

  private waitFor(weight: Weight, now: number): number {
    const used = { ...this.used };
    for (let i = this.first; i < this.entries.length; i++) {
      const entry = this.entries[i] as Entry;
      used.requests -= entry.requests;
      used.tokens -= entry.tokens;
      if (this.fits(weight, used)) return entry.at + this.windowMs - now;
    }
    return this.windowMs; // Larger than the limit itself: it never fits.
  }

  private slide(now: number): void {
    for (; this.first < this.entries.length; this.first++) {
      const entry = this.entries[this.first] as Entry;
      if (entry.at + this.windowMs > now) break;
      this.used.requests -= entry.requests;
      this.used.tokens -= entry.tokens;
    }
    if (this.first < 1024 || this.first * 2 < this.entries.length) return;
    this.entries = this.entries.slice(this.first);
    this.first = 0;
  }
}
