/** How many seconds' worth of positions are kept. */
const KEPT = 1_800;

/** When the primary's WAL was how long, so that a position in it can be told in seconds. */
export class WalClock {
  readonly #marks: { readonly at: number; readonly position: number }[] = [];

  /** `at` in s of the database's clock, `position` in bytes of WAL. */
  note(at: number, position: number): void {
    this.#marks.push({ at, position });
    if (this.#marks.length > KEPT) this.#marks.shift();
  }

  /**
   * For how long there has been WAL after `position`, in s: at least and, where a mark is old enough to tell, at most.
   */
  secondsBehind(position: number, now: number): { readonly least: number; readonly most: number } {
    const next = this.#marks.findIndex((mark) => mark.position > position);
    const last = this.#marks.at(next === -1 ? -1 : next - 1);
    const first = next === -1 ? undefined : this.#marks[next];
    return {
      least: first === undefined ? 0 : Math.max(0, now - first.at),
      most: next === 0 || last === undefined ? Number.POSITIVE_INFINITY : Math.max(0, now - last.at),
    };
  }

  /** Bytes of WAL a second over the last `seconds`; undefined with fewer than two marks. */
  rate(seconds: number): number | undefined {
    const last = this.#marks.at(-1);
    if (last === undefined) return undefined;
    const first = this.#marks.find(({ at }) => at >= last.at - seconds);
    if (first === undefined || first === last || last.at <= first.at) return undefined;
    return Math.max(0, last.position - first.position) / (last.at - first.at);
  }
}
