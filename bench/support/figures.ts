/** One measured number, with the bound that it must keep; without a bound it is only reported. */
export interface Figure {
  readonly what: string;
  readonly value: number;
  readonly unit: '×' | 'ms' | 'MB' | '/s' | '';
  readonly atLeast?: number;
  readonly atMost?: number;
}

export function keepsBound({ value, atLeast = -Infinity, atMost = Infinity }: Figure): boolean {
  return value >= atLeast && value <= atMost; // False for NaN.
}

/** what, figure, bound, verdict: one line each, in columns. */
export function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => [figure.what, shown(figure, figure.value), boundOf(figure), verdict(figure)]);
  const all = [['what', 'figure', 'bound', 'verdict'], ...rows];
  const widths = [0, 1, 2, 3].map((i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function boundOf(figure: Figure): string {
  if (figure.atLeast !== undefined) return `≥ ${shown(figure, figure.atLeast)}`;
  if (figure.atMost !== undefined) return `≤ ${shown(figure, figure.atMost)}`;
  return '';
}

function verdict(figure: Figure): string {
  if (!keepsBound(figure)) return 'MISS';
  return figure.atLeast === undefined && figure.atMost === undefined ? '' : 'ok';
}

function shown({ unit }: Figure, value: number): string {
  const digits = Number.isInteger(value) || Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : 2;
  return `${value.toFixed(digits)}${unit === '×' || unit === '' ? unit : ` ${unit}`}`;
}
