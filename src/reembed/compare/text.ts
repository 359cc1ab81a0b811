import type { CompareCost, Comparison, ModelComparison } from '../compare.js';
import type { Interval } from '../eval/measures.js';
import { columns, keysAside, ms, signed } from '../eval/text.js';

/** The comparison for a terminal. */
export function renderComparison(comparison: Comparison): string {
  const { source, rows, queries, how, k, metric, models } = comparison;
  const parts = [
    `${source}: ${models.length} models on ${rows.toLocaleString('en-US')} sampled rows, exact ${metric} search; ${how}`,
    columns(`Found in the first ${k} (mean, 95 % interval of ${queries} queries)`, [
      ['model', `recall@${k}`, `nDCG@${k}`, `recall@${k} less the first's`, `nDCG@${k} less the first's`],
      ...models.map(({ model, recall, ndcg, against }) => [
        model,
        meanText(recall),
        meanText(ndcg),
        against ? differenceText(against.recall) : '',
        against ? differenceText(against.ndcg) : '',
      ]),
    ]),
    columns('Time and money', [
      ['model', 'ms a text', 'query p50 ms', 'query p95 ms', 'tokens a text', '$ per million rows', 'rejected'],
      ...models.map(({ model, latency, tokensPerText, usdPerMillionRows, rejected }) => [
        model,
        ms(latency.perText),
        ms(latency.queryP50),
        ms(latency.queryP95),
        tokensPerText.toFixed(1),
        usdText(usdPerMillionRows),
        String(rejected),
      ]),
    ]),
    columns('Storage of a million rows', [['model', 'type', 'vectors', 'HNSW index'], ...models.flatMap(storageRows)]),
    'Scores among a sample are higher than among all rows; their order is what counts.',
    ...keysAside(comparison),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** What a comparison would send and cost, for the question before it. */
export function renderCosts(costs: readonly CompareCost[]): string {
  return `${columns('To be embedded', [
    ['model', 'texts', 'tokens', '$'],
    ...costs.map(({ model, texts, tokens, usd }) => [
      model,
      texts.toLocaleString('en-US'),
      tokens.toLocaleString('en-US'),
      usdText(usd),
    ]),
  ])}\n`;
}

function storageRows({ model, storage }: ModelComparison): string[][] {
  return storage.map(({ type, vectorBytesPerMillionRows, indexBytesPerMillionRows }) => [
    model,
    type,
    bytesText(vectorBytesPerMillionRows),
    indexBytesPerMillionRows === undefined ? 'too many dimensions' : bytesText(indexBytesPerMillionRows),
  ]);
}

function meanText({ mean, low, high }: Interval): string {
  return `${mean.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}

function differenceText({ mean, low, high }: Interval): string {
  return `${signed(mean)} (${signed(low)} to ${signed(high)})`;
}

function usdText(usd: number | undefined): string {
  if (usd === undefined) return 'unknown';
  return usd === 0 ? '0' : usd < 0.01 ? '< 0.01' : usd.toFixed(2);
}

function bytesText(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
