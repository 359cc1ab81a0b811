/**
 * The visit of many pages that goes on beside the drains of a space in this process, one at a time: what it finds comes
 * back as changes, so edits are claimed meanwhile, and a drain whose time is over need not wait for it.
 */
export class LongVisit {
  private readonly stop = new AbortController();
  private underWay: Promise<void> | undefined;
  private failure: { readonly error: unknown } | undefined;

  /**
   * Begins it, unless one is under way or `end` was called, which aborts its signal. Throws what the last one failed with,
   * once: a drain knows what to do about it.
   */
  begin(visit: (stop: AbortSignal) => Promise<void>): void {
    const { signal } = this.stop;
    if (signal.aborted) return;
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure.error;
    this.underWay ??= visit(signal)
      .catch((error: unknown) => {
        this.failure = { error };
      })
      .finally(() => {
        this.underWay = undefined;
      });
  }

  /** Resolves once none is under way. */
  async ended(): Promise<void> {
    await this.underWay;
  }

  /** Stops it, for good; what it has done is rolled back, and the next worker finds its pages as they were. */
  async end(): Promise<void> {
    this.stop.abort();
    await this.underWay;
  }
}
