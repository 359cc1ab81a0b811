import type { Gate, LabelledQuery } from '../../catalog/migration.js';
import type { Compared, LabelledScores } from './labelled.js';
import type { EvalReport, SpaceReport } from './report.js';

/** Queries that a report for people lists: those that the new model answers worst, compared with the old one. */
const MOST_QUERIES = 20;

/** The report for a terminal. */
export function renderText(report: EvalReport): string {
  const { source, at, rows, from, to, gates, recall, overlap, labelled, k, efSearch } = report;
  const parts = [
    `${source}: ${from.model} → ${to.model}, ${rows.toLocaleString('en-US')} rows, ${at}`,
    columns('Gates', [
      ['', 'gate', 'measured', 'bound', ''],
      ...gates.map((gate) => [verdict(gate), gate.name, shown(gate.value), shown(gate.bound), gate.note ?? '']),
    ]),
    columns(`Search (k ${k}, ef_search ${efSearch}, without embedding the query)`, [
      ['', 'model', 'vectors', 'p50 ms', 'p95 ms', `distance to the ${k} nearest`],
      ['old', ...spaceCells(from)],
      ['new', ...spaceCells(to)],
    ]),
  ];
  if (recall && recall.points.length > 0) {
    parts.push(
      columns(`Recall@${k} of the new index, ${recall.queries} stored vectors (exact: p50 ${ms(recall.exactP50)} ms)`, [
        ['ef_search', 'recall', 'p50 ms'],
        ...recall.points.map((point) => [String(point.efSearch), point.recall.toFixed(4), ms(point.p50)]),
      ]),
    );
  }
  if (overlap.mean !== null) {
    parts.push(`Overlap@${k} of old and new: ${overlap.mean.toFixed(3)}, the mean of ${overlap.rows} rows`);
  }
  if (labelled && labelled.queries.length > 0) {
    parts.push(
      columns(`Labelled queries (${labelled.queries.length})`, [
        ['', 'old', 'new', 'difference', '95 % interval'],
        [`recall@${k}`, ...comparedCells(labelled.recall)],
        [`nDCG@${k}`, ...comparedCells(labelled.ndcg)],
      ]),
      columns('Queries by what the new model loses', [
        ['recall', 'nDCG', 'query'],
        ...worstFirst(report).map(({ from: old, to: now, ...query }) => [
          `${old.recall.toFixed(2)} → ${now.recall.toFixed(2)}`,
          `${old.ndcg.toFixed(2)} → ${now.ndcg.toFixed(2)}`,
          oneLine(queryText(query)),
        ]),
      ]),
    );
    parts.push(...keysAside(labelled));
  }
  return `${parts.join('\n\n')}\n`;
}

/** What the new model loses most comes first. */
export function worstFirst(report: Pick<EvalReport, 'labelled'>) {
  const queries = [...(report.labelled?.queries ?? [])];
  return queries.sort((a, b) => a.to.ndcg - a.from.ndcg - (b.to.ndcg - b.from.ndcg)).slice(0, MOST_QUERIES);
}

/** A labelled query by what tells it from others. */
export function queryText({ query, tenant }: Pick<LabelledQuery, 'query' | 'tenant'>): string {
  return tenant === undefined ? query : `${query} (tenant ${tenant})`;
}

/** Keys of labelled queries that nothing was asked of, in a sentence each. */
export function keysAside({
  unknownKeys,
  unfindableKeys,
}: Pick<LabelledScores, 'unknownKeys' | 'unfindableKeys'>): string[] {
  const named = (what: string, keys: readonly string[]) =>
    keys.length === 0
      ? []
      : [`${what}: ${keys.slice(0, 20).join(', ')}${keys.length > 20 ? `, of ${keys.length}` : ''}`];
  return [
    ...named('Keys that are not in the source', unknownKeys),
    ...named('Keys of rows that no search of their query finds (filter, no text, another tenant)', unfindableKeys),
  ];
}

export function verdict({ passed, advisory }: Gate): string {
  return advisory ? 'info' : passed ? 'pass' : 'FAIL';
}

/** A gate's value or bound, to four digits. */
export function shown(value: Gate['value']): string {
  return typeof value === 'number' ? String(Number(value.toPrecision(4))) : (value ?? '–');
}

export function ms(value: number | null): string {
  return value === null ? '–' : value.toFixed(value < 10 ? 2 : 1);
}

export function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
}

function spaceCells({ fingerprint, dimensions, type, latency, distances }: SpaceReport): string[] {
  const { low, high } = distances;
  const near = distances.counts.some((count) => count > 0) ? `${low.toFixed(3)} to ${high.toFixed(3)}` : '–';
  return [fingerprint, `${type}(${dimensions})`, ms(latency.p50), ms(latency.p95), near];
}

function comparedCells({ from, to, difference }: Compared): string[] {
  const interval = `${signed(difference.low)} to ${signed(difference.high)}`;
  return [from.mean.toFixed(3), to.mean.toFixed(3), signed(difference.mean), interval];
}

function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length > 100 ? `${line.slice(0, 99)}…` : line;
}

/** Rows under a title, their cells under one another. */
export function columns(title: string, rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  const lines = rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
  return [title, ...lines].join('\n');
}
