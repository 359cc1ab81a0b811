import type { IndexCost } from '../store/index-state.js';

/** A write transaction is sized to hold its locks for this long at most (DESIGN law 4). */
export const LOCKS_HELD_MS = 30;

/** Rows in a first write: with a live HNSW index each row takes milliseconds, without one a fraction. */
export const FIRST_WRITE = { indexed: 3, plain: 200 };

const MIN_ROWS = 1;
const MAX_ROWS = 500;

/** How many rows go into one write, following the time that writes take. */
export interface Pace {
  rows(): number;
  /** Tells how long a write of `rows` rows held its locks, in ms. */
  observe(rows: number, heldMs: number): void;
  /** Starts anew at so many rows: an index came or went. */
  restart(initial: number): void;
}

/** How much larger than those of rows that move the writes of rows that stay may be: they may have to move after all. */
const STAYING_TIMES = 4;

/** For rows that should stay on their page, which costs a fraction of what `moving` knows. */
export function createStayingPace(moving: Pace, initial: number): Pace {
  const staying = createPace(initial);
  return { ...staying, rows: () => Math.min(staying.rows(), STAYING_TIMES * moving.rows()) };
}

/** Starts both anew: what writes pay for has changed. */
export function restartPaces(moving: Pace, staying: Pace, indexed: IndexCost): void {
  moving.restart(indexed === 'none' ? FIRST_WRITE.plain : FIRST_WRITE.indexed);
  staying.restart(FIRST_WRITE.indexed);
}

/**
 * Starts at `initial` rows (a live HNSW index takes about 10, a bare table hundreds) and follows the writes: shrinks at
 * once when one held its locks too long, grows by at most half a write when there was room.
 */
export function createPace(initial: number): Pace {
  let rows = initial;
  return {
    rows: () => Math.round(rows),
    restart(initial) {
      rows = initial;
    },
    observe(count, heldMs) {
      if (count === 0) return;
      const fitting = (count * LOCKS_HELD_MS * 0.8) / Math.max(heldMs, 0.1);
      if (fitting < rows) rows = Math.max(MIN_ROWS, fitting, rows / 4);
      else if (count >= Math.round(rows)) rows = Math.min(MAX_ROWS, fitting, rows * 1.5);
    },
  };
}
