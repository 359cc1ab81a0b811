import Table from 'cli-table3';

const PLAIN = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '' },
  ...{ 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

/** Rows under a head, without lines; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const numeric = head.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'));
  const drawn = new Table({
    head: [...head],
    chars: PLAIN,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: numeric.map((right) => (right ? 'right' : 'left')),
  });
  for (const row of rows) drawn.push(row.map((cell) => (typeof cell === 'number' ? count(cell) : cell)));
  return drawn.toString().replaceAll(/[ \t]+$/gm, '');
}

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1.5 MB`, by powers of 1024. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${['B', 'kB', 'MB', 'GB', 'TB'][power]}`;
}

/** When a pause ends; null: not by itself. */
export function untilText(until: string | null): string {
  return until === null ? 'until it is resumed' : `until ${until}`;
}

/** One line of at most `most` characters. */
export function excerpt(value: unknown, most: number): string {
  const text = (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).replaceAll(/\s+/g, ' ').trim();
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export function keyText(key: unknown): string {
  return typeof key === 'object' ? JSON.stringify(key) : String(key);
}
