/** Waves at most: the first one pays for moving an eighth of each page, and no transaction gets too small. */
export const MOST_WAVES = 8;

/** A row to be written, and the page that it is on, where that is known. */
type Placed = { readonly page?: string | undefined };

/**
 * Orders the rows of a batch so that those of one page are written in several transactions, wave by wave: the first few
 * move to another page, and what they leave behind is room for the next ones, whose new versions stay on the page and go
 * into none of the table's indexes (HOT). Written together, all rows of a full page would move. A wave has an eighth of
 * the rows of each page, at least one, in the order in which they came; rows on no known page are in the first.
 */
export function inWaves<R extends Placed>(rows: readonly R[]): { readonly row: R; readonly wave: number }[] {
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
