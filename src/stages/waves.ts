import type { IndexCost } from '../store/index-state.js';

/** Waves at most: the first one pays for moving an eighth of each page, and no transaction gets too small. */
export const MOST_WAVES = 8;

/** A row to be written, and the page that it is on, where that is known. */
type Placed = { readonly page?: string | undefined };

/** A row that is still to be written, and when its turn is. */
export interface InLine<R> {
  readonly row: R;
  readonly wave: number;
}

/** The rows of a batch in the order in which to write them: in waves where rows that move pay for a vector index. */
export function lineUp<R extends Placed>(rows: readonly R[], indexed: IndexCost): InLine<R>[] {
  return indexed === 'moved' ? inWaves(rows) : rows.map((row) => ({ row, wave: 0 }));
}

/** How rows of a line are written: those that move, and those that should stay on their page. */
export interface Styles<S> {
  readonly moving: S;
  readonly staying: S;
}

/** What the next transaction writes: rows of the first wave in the line, as many as the pace of their style has. */
export function nextInLine<R, S extends { readonly pace: { rows(): number } }>(
  line: readonly InLine<R>[],
  { moving, staying }: Styles<S>,
): { readonly rows: R[]; readonly style: S } {
  const wave = line[0]?.wave ?? 0;
  const style = wave > 0 ? staying : moving;
  const rows = line.slice(0, style.pace.rows()).flatMap((next) => (next.wave === wave ? [next.row] : []));
  return { rows, style };
}

/**
 * Orders the rows of a batch so that those of one page are written in several transactions, wave by wave: the first few
 * move to another page, and what they leave behind is room for the next ones, whose new versions stay on the page and go
 * into none of the table's indexes (HOT). Written together, all rows of a full page would move. A wave has an eighth of
 * the rows of each page, at least one, in the order in which they came; rows on no known page are in the first.
 */
export function inWaves<R extends Placed>(rows: readonly R[]): InLine<R>[] {
  const onPage = new Map<string, number>();
  for (const { page } of rows) if (page !== undefined) onPage.set(page, (onPage.get(page) ?? 0) + 1);
  const seen = new Map<string, number>();
  const waveOf = ({ page }: Placed) => {
    if (page === undefined) return 0;
    const rank = seen.get(page) ?? 0;
    seen.set(page, rank + 1);
    const count = onPage.get(page) ?? 1;
    return Math.floor((rank * Math.min(MOST_WAVES, count)) / count);
  };
  return rows.map((row) => ({ row, wave: waveOf(row) })).sort((a, b) => a.wave - b.wave);
}
