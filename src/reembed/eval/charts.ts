import type { Histogram } from './report.js';

/** SVG charts of a report: no scripts, colours by CSS classes, so that they follow light and dark. */

const WIDTH = 560;
const HEIGHT = 240;
const EDGE = { left: 52, right: 16, top: 14, bottom: 40 };
const INNER = { width: WIDTH - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };

/** For HTML text and attributes. */
export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

export interface LineChart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** `label` is what the point is called under the axis. */
  readonly points: readonly { readonly label: string; readonly value: number }[];
  /** A line across, such as a gate's bound. */
  readonly bound: { readonly value: number; readonly label: string };
}

/** Values from 0 to 1 at evenly spaced points; the axis begins below the least of them. */
export function lineChart({ title, x, y, points, bound }: LineChart): string {
  const least = Math.min(bound.value, ...points.map(({ value }) => value));
  const low = Math.max(0, Math.floor((least - 0.02) * 20) / 20);
  const at = (i: number) => EDGE.left + (points.length < 2 ? 0.5 : i / (points.length - 1)) * INNER.width;
  const up = (value: number) => EDGE.top + (1 - (value - low) / (1 - low)) * INNER.height;
  const path = points.map(({ value }, i) => `${round(at(i))},${round(up(value))}`).join(' ');
  const body = [
    ...ticks(low, 1, up, (value) => value.toFixed(2)),
    `<line class="bound" x1="${EDGE.left}" x2="${WIDTH - EDGE.right}" y1="${round(up(bound.value))}" y2="${round(up(bound.value))}"/>`,
    `<text class="note" x="${WIDTH - EDGE.right}" y="${round(up(bound.value) + 14)}" text-anchor="end">${escaped(bound.label)}</text>`,
    `<polyline class="line new" points="${path}"/>`,
    ...points.map(
      ({ label, value }, i) =>
        `<circle class="dot new" cx="${round(at(i))}" cy="${round(up(value))}" r="4"><title>${escaped(`${x} ${label}: ${value.toFixed(4)}`)}</title></circle>` +
        xLabel(at(i), label),
    ),
  ];
  return chart(title, x, y, body);
}

export interface Series {
  readonly name: string;
  readonly side: 'old' | 'new';
  readonly values: readonly number[];
}

export interface BarChart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly labels: readonly string[];
  /** As many values as labels, each 0 or more. */
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
}

/** Groups of bars side by side. */
export function barChart({ title, x, y, labels, series, format }: BarChart): string {
  const most = Math.max(0, ...series.flatMap(({ values }) => values)) || 1;
  const high = niceCeiling(most);
  const up = (value: number) => EDGE.top + (1 - value / high) * INNER.height;
  const group = INNER.width / Math.max(1, labels.length);
  const bar = Math.min(44, (group * 0.72) / Math.max(1, series.length));
  const bars = labels.flatMap((label, i) => {
    const middle = EDGE.left + (i + 0.5) * group;
    return [
      ...series.map(({ name, side, values }, s) => {
        const value = values[i] ?? 0;
        const left = middle + (s - series.length / 2) * bar;
        const height = Math.max(0, EDGE.top + INNER.height - up(value));
        const said = escaped(`${name}, ${label}: ${format(value)}`);
        return `<rect class="bar ${side}" x="${round(left + 1)}" y="${round(up(value))}" width="${round(bar - 2)}" height="${round(height)}" rx="2"><title>${said}</title></rect>`;
      }),
      xLabel(middle, label),
    ];
  });
  return chart(title, x, y, [...ticks(0, high, up, format), ...bars]);
}

/** One histogram, its bins named by where they begin. */
export function histogramChart(title: string, x: string, side: Series['side'], name: string, h: Histogram): string {
  const step = (h.high - h.low) / Math.max(1, h.counts.length);
  const every = Math.ceil(h.counts.length / 6);
  const labels = h.counts.map((_, i) => (i % every === 0 ? (h.low + i * step).toFixed(3) : ''));
  return barChart({ title, x, y: 'neighbours', labels, series: [{ name, side, values: h.counts }], format: String });
}

export interface Slope {
  readonly label: string;
  readonly from: number;
  readonly to: number;
}

/** From old to new, 0 to 1, a line for each: those that fall are marked. */
export function slopeChart(title: string, y: string, slopes: readonly Slope[]): string {
  const [left, right] = [EDGE.left + 70, WIDTH - EDGE.right - 70];
  const up = (value: number) => EDGE.top + (1 - value) * INNER.height;
  const lines = slopes.map(({ label, from, to }) => {
    const kind = to < from ? 'worse' : to > from ? 'better' : 'same';
    const said = escaped(`${label}: ${from.toFixed(3)} → ${to.toFixed(3)}`);
    return `<g class="slope ${kind}"><line x1="${left}" x2="${right}" y1="${round(up(from))}" y2="${round(up(to))}"/><circle cx="${left}" cy="${round(up(from))}" r="3"/><circle cx="${right}" cy="${round(up(to))}" r="3"/><title>${said}</title></g>`;
  });
  const ends = [xLabel(left, 'old'), xLabel(right, 'new')];
  return chart(title, '', y, [...ticks(0, 1, up, (value) => value.toFixed(2)), ...lines, ...ends]);
}

function chart(title: string, x: string, y: string, body: readonly string[]): string {
  const middle = EDGE.top + INNER.height / 2;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">
${body.join('\n')}
<text class="axis" x="${EDGE.left + INNER.width / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escaped(x)}</text>
<text class="axis" x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})">${escaped(y)}</text>
</svg>`;
}

const TICKS = 4;

function ticks(low: number, high: number, up: (value: number) => number, format: (value: number) => string): string[] {
  return Array.from({ length: TICKS + 1 }, (_, i) => {
    const value = low + ((high - low) * i) / TICKS;
    const at = round(up(value));
    return `<line class="grid" x1="${EDGE.left}" x2="${WIDTH - EDGE.right}" y1="${at}" y2="${at}"/><text class="tick" x="${EDGE.left - 6}" y="${round(up(value) + 4)}" text-anchor="end">${escaped(format(value))}</text>`;
  });
}

function xLabel(x: number, label: string): string {
  return `<text class="tick" x="${round(x)}" y="${HEIGHT - EDGE.bottom + 16}" text-anchor="middle">${escaped(label)}</text>`;
}

/** The next of 1, 2, 4, 5, 8 or 10 times a power of ten: a quarter of it is a short number. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return (([1, 2, 4, 5, 8, 10].find((step) => step * power >= value * (1 - 1e-9)) ?? 10) as number) * power;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
