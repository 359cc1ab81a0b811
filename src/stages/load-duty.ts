/** One slow batch must not stop the load for minutes. */
const MOST_REST_MS = 10_000;

/**
 * The part of the time that this process works on the pages of a space's first load or sweep: after each batch it leaves them
 * alone for as long as the share asks, all slots together. While it is held back at all, what is embedded in this process goes
 * one batch at a time: two side by side take two processors for as long as they last, however long the rest between them.
 * Edits are claimed all the while.
 */
export class LoadDuty {
  private freeAt = 0;
  private share = 1;
  /** Batches that are claimed, not yet written, and beside which no other is wanted. */
  private alone = 0;

  /** 0 to 1, as the throttle has it; what is left of a rest follows it. */
  follow(share: number): void {
    if (share === this.share) return;
    const left = this.freeAt - performance.now();
    // From a standstill, or from no rest at all, there is nothing to go by.
    if (left > 0 && share > 0 && this.share > 0 && this.share < 1)
      this.freeAt = performance.now() + left * (restOf(share) / restOf(this.share));
    this.share = share;
  }

  /** Whether pages may be claimed now. */
  isFree(): boolean {
    return this.restMs() === 0 && (this.share === 1 || this.alone === 0);
  }

  /** Ms until pages may be claimed again; Infinity while they may not at all. */
  restMs(): number {
    return this.share > 0 ? Math.max(0, this.freeAt - performance.now()) : Number.POSITIVE_INFINITY;
  }

  /** A batch of pages is claimed, and under way until the function that comes back is called. `alone`: embedded here. */
  begin({ alone }: { readonly alone: boolean }): () => void {
    const began = performance.now();
    if (alone) this.alone += 1;
    return () => {
      if (alone) this.alone -= 1;
      this.worked(performance.now() - began);
    };
  }

  /** Leaves the pages alone for so many ms: somebody holds what is to be done there. */
  rest(ms: number): void {
    this.freeAt = Math.max(this.freeAt, performance.now() + Math.min(ms, MOST_REST_MS));
  }

  /**
   * Tells how long pages were worked on, in ms. Slots that end together rest together.
   * @param most what these pages may have of the time, whatever the throttle gives
   */
  worked(ms: number, most = 1): void {
    if (this.share <= 0) return;
    this.rest(ms * restOf(Math.min(this.share, most)));
  }
}

/** Rest for each ms of work. */
function restOf(share: number): number {
  return 1 / share - 1;
}
