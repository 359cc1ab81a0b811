import { barChart, escaped, histogramChart, lineChart, slopeChart } from './charts.js';
import type { Compared } from './labelled.js';
import type { EvalReport, SpaceReport } from './report.js';
import { keysAside, ms, queryText, shown, signed, verdict, worstFirst } from './text.js';

/** Lines that a chart of queries can show apart. */
const MOST_SLOPES = 200;

/** The report as one page that needs nothing else: styles and charts inline, no scripts, light and dark. */
export function renderHtml(report: EvalReport): string {
  const { source, at, rows, from, to } = report;
  const title = `${source}: ${from.model} → ${to.model}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escaped(source)}</h1>
<p class="models"><span class="key old"></span>old <code>${escaped(from.fingerprint)}</code> <span class="key new"></span>new <code>${escaped(to.fingerprint)}</code></p>
<p class="quiet">${rows.toLocaleString('en-US')} rows · ${escaped(at)} · ${escaped(summary(report))}</p>
</header>
<main>
${[gates(report), search(report), recall(report), overlap(report), distances(report), labelled(report)].join('\n')}
</main>
</body>
</html>
`;
}

function summary({ gates: all }: EvalReport): string {
  const failed = all.filter(({ passed, advisory }) => !passed && !advisory);
  if (failed.length === 0) return 'every gate holds';
  return `${failed.length} of ${all.length} gates do not hold: ${failed.map(({ name }) => name).join(', ')}`;
}

function gates(report: EvalReport): string {
  const rows = report.gates.map((gate) => {
    const word = verdict(gate);
    return [
      `<span class="badge ${word.toLowerCase()}">${word.toLowerCase()}</span>`,
      `<strong>${escaped(gate.name)}</strong>`,
      escaped(shown(gate.value)),
      escaped(shown(gate.bound)),
      escaped(gate.note ?? ''),
    ];
  });
  return section('Gates', '', table(['', 'gate', 'measured', 'bound', 'what it means'], rows, [2, 3]), true);
}

function search({ from, to, k, efSearch }: EvalReport): string {
  const latency = (space: SpaceReport) => [space.latency.p50 ?? 0, space.latency.p95 ?? 0];
  const measured = [from, to].some((space) => space.latency.searches > 0);
  const drawn = measured
    ? barChart({
        title: 'Latency of the search statement',
        x: '',
        y: 'ms',
        labels: ['p50', 'p95'],
        series: [
          { name: from.model, side: 'old', values: latency(from) },
          { name: to.model, side: 'new', values: latency(to) },
        ],
        format: (value) => String(Number(value.toPrecision(3))),
      })
    : '';
  const cells = (name: string, space: SpaceReport) => [
    name,
    `<code>${escaped(`${space.type}(${space.dimensions})`)}</code> ${escaped(space.metric)}, ${escaped(space.store)} store`,
    ms(space.latency.p50),
    ms(space.latency.p95),
  ];
  const figures = table(['', 'vectors', 'p50 ms', 'p95 ms'], [cells('old', from), cells('new', to)], [2, 3]);
  const note = `Searches for ${to.latency.searches} stored vectors, k ${k}, ef_search ${efSearch}. Embedding the query is not in it.`;
  return section('Search latency', note, drawn + figures);
}

function recall({ recall: measured, k, gates: all }: EvalReport): string {
  const title = `Recall@${k} of the new index`;
  if (!measured || measured.points.length === 0)
    return section(title, 'There is no index, or nothing to ask it for.', '');
  const bound = all.find(({ name }) => name === 'recall')?.bound;
  const points = measured.points.map(({ efSearch, recall: value }) => ({ label: String(efSearch), value }));
  const least = typeof bound === 'number' ? bound : 1;
  const drawn = lineChart({
    title,
    x: 'ef_search',
    y: 'recall',
    points,
    bound: { value: least, label: `bound ${least}` },
  });
  const rows = measured.points.map((point) => [String(point.efSearch), point.recall.toFixed(4), ms(point.p50)]);
  const note = `What the index finds of an exact search for ${measured.queries} stored vectors; exact, a search takes ${ms(measured.exactP50)} ms.`;
  return section(title, note, drawn + table(['ef_search', 'recall', 'p50 ms'], rows, [0, 1, 2]));
}

function overlap({ overlap: { mean, rows, counts }, k }: EvalReport): string {
  const title = `Overlap@${k} of old and new`;
  if (mean === null) return section(title, 'No row has vectors of both models.', '');
  const note = `How many of the ${k} rows nearest to a row both models agree on: ${mean.toFixed(3)} of them, the mean of ${rows} rows. A better model finds other rows, so this decides nothing.`;
  const drawn = barChart({
    title,
    x: 'neighbours that both have',
    y: 'rows',
    labels: counts.map((_, i) => String(i)),
    series: [{ name: 'rows', side: 'new', values: counts }],
    format: (value) => String(Number(value.toPrecision(3))),
  });
  return section(title, note, drawn);
}

function distances({ from, to, k }: EvalReport): string {
  const drawn = (
    [
      ['old', from],
      ['new', to],
    ] as const
  )
    .filter(([, space]) => space.distances.counts.some((count) => count > 0))
    .map(([side, space]) =>
      histogramChart(
        `Distances, ${side}`,
        `${space.metric} distance, ${space.model}`,
        side,
        space.model,
        space.distances,
      ),
    );
  if (drawn.length === 0) return section('Distances', 'No row has vectors of both models.', '');
  const note = `Of the ${k} nearest rows. Each model has a scale of its own: a threshold that the app compares distances with must be found anew.`;
  return section('Distances', note, drawn.join('\n'));
}

function labelled(report: EvalReport): string {
  const { labelled: scores, k } = report;
  if (!scores || scores.queries.length === 0) {
    return section('Labelled queries', 'None were given, or none could be asked.', '');
  }
  const slopes = scores.queries
    .slice(0, MOST_SLOPES)
    .map(({ from, to, ...query }) => ({ label: queryText(query), from: from.ndcg, to: to.ndcg }));
  const means = table(
    ['', 'old', 'new', 'difference', '95 % interval'],
    [means5(`recall@${k}`, scores.recall), means5(`nDCG@${k}`, scores.ndcg)],
    [1, 2, 3, 4],
  );
  const rows = worstFirst(report).map(({ from, to, ...query }) => [
    escaped(queryText(query)),
    `${from.recall.toFixed(2)} → ${to.recall.toFixed(2)}`,
    `${from.ndcg.toFixed(2)} → ${to.ndcg.toFixed(2)}`,
  ]);
  const worst = table(['query, the greatest loss first', `recall@${k}`, `nDCG@${k}`], rows, [1, 2]);
  const aside = keysAside(scores)
    .map((sentence) => ` ${sentence}.`)
    .join('');
  const note = `${scores.queries.length} queries; the interval is a paired bootstrap of the mean difference.${aside}`;
  return section(
    'Labelled queries',
    note,
    slopeChart(`nDCG@${k} of each query`, `nDCG@${k}`, slopes) + means + worst,
    true,
  );
}

function means5(name: string, { from, to, difference }: Compared): string[] {
  const interval = `${signed(difference.low)} to ${signed(difference.high)}`;
  return [name, from.mean.toFixed(3), to.mean.toFixed(3), signed(difference.mean), interval];
}

/** `body` and the cells of tables are HTML; titles and notes are text. */
function section(title: string, note: string, body: string, wide = false): string {
  const said = note === '' ? '' : `<p class="quiet">${escaped(note)}</p>\n`;
  return `<section${wide ? ' class="wide"' : ''}>\n<h2>${escaped(title)}</h2>\n${said}${body}\n</section>`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[], numeric: readonly number[]): string {
  const cell = (tag: string, html: string, i: number) =>
    `<${tag}${numeric.includes(i) ? ' class="n"' : ''}>${html}</${tag}>`;
  const line = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((html, i) => cell(tag, html, i)).join('')}</tr>`;
  return `<div class="scroll"><table><thead>${line('th', head.map(escaped))}</thead><tbody>${rows.map((row) => line('td', row)).join('\n')}</tbody></table></div>`;
}

const STYLE = `
:root { color-scheme: light dark; --page: #f7f7f5; --card: #ffffff; --ink: #1c1d1f; --quiet: #5d6066; --line: #e2e2de;
  --old: #8a5a00; --new: #1d5fb8; --pass: #17693a; --fail: #b3261e; --info: #5d6066; }
@media (prefers-color-scheme: dark) { :root { --page: #131416; --card: #1c1e21; --ink: #ececea; --quiet: #a2a6ad;
  --line: #33363b; --old: #e0a84a; --new: #74aef5; --pass: #6bcf94; --fail: #ff8a80; --info: #a2a6ad; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 24px; }
main { padding-top: 0; display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
section { min-width: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px; }
section.wide { grid-column: 1 / -1; }
h1 { margin: 0; font-size: 24px; overflow-wrap: anywhere; } h2 { margin: 0 0 4px; font-size: 16px; }
p { margin: 0 0 10px; } .quiet { color: var(--quiet); font-size: 13.5px; } .models { margin: 4px 0; overflow-wrap: anywhere; }
code { font: 13px ui-monospace, monospace; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 2px 0 8px; } .models .key:first-child { margin-left: 0; }
.key.old { background: var(--old); } .key.new { background: var(--new); }
.scroll { overflow-x: auto; } table { width: 100%; border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 5px 10px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
tr:last-child td { border-bottom: 0; } th { color: var(--quiet); font-weight: 500; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.badge { white-space: nowrap; font-size: 12px; font-weight: 600; padding: 1px 8px; border-radius: 9px; border: 1px solid currentColor; }
.badge.pass { color: var(--pass); } .badge.fail { color: var(--fail); } .badge.info { color: var(--info); }
svg { display: block; width: 100%; max-width: 640px; height: auto; margin: 4px 0 10px; } svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .bound { stroke: var(--fail); stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; } .line.new { stroke: var(--new); } .dot.new, .bar.new { fill: var(--new); } .bar.old { fill: var(--old); }
.slope line { stroke-width: 1.5; opacity: .75; } .slope.same { stroke: var(--quiet); fill: var(--quiet); opacity: .6; }
.slope.better { stroke: var(--new); fill: var(--new); } .slope.worse { stroke: var(--fail); fill: var(--fail); }
@media print { body { background: none; } section { break-inside: avoid; } }
`;
