import { describe, expect, test } from 'vitest';
import { renderHtml } from '../../src/reembed/eval/html.js';
import { bootstrap } from '../../src/reembed/eval/measures.js';
import { type EvalReport, histogram } from '../../src/reembed/eval/report.js';
import { renderText } from '../../src/reembed/eval/text.js';

const NASTY = `<script>alert("x")</script> & 'so' on`;

function space(model: string, times: [number, number] | undefined): EvalReport['from'] {
  return {
    model,
    fingerprint: `${model}#01234567`,
    dimensions: 256,
    type: 'vector',
    metric: 'cosine',
    store: 'column',
    state: 'live',
    latency: { searches: times ? 50 : 0, p50: times?.[0] ?? null, p95: times?.[1] ?? null },
    distances: histogram(times ? Array.from({ length: 300 }, (_, i) => Math.sin(i) ** 2) : [], 24),
  };
}

const FULL: EvalReport = {
  source: NASTY,
  at: '2026-01-02T03:04:05.000Z',
  k: 10,
  efSearch: 80,
  rows: 1_234_567,
  from: space('openai/text-embedding-3-small@1536', [1.234, 17.5]),
  to: space('static/mini@256', [0.02, 0.9]),
  gates: [
    { name: 'coverage', passed: false, value: 3, bound: 0, note: NASTY },
    { name: 'recall', passed: true, value: 0.98765, bound: 0.98, note: 'fine' },
    { name: 'overlap', passed: true, value: null, bound: null, advisory: true },
  ],
  recall: {
    queries: 50,
    exactP50: 812.4,
    points: [40, 80, 120, 160, 240, 400, 640, 1000].map((efSearch, i) => ({
      efSearch,
      recall: 1 - 0.4 / (i + 1) ** 2,
      p50: i + 0.5,
    })),
  },
  overlap: { rows: 50, mean: 0.61, counts: [0, 1, 0, 3, 5, 9, 12, 10, 6, 3, 1] },
  labelled: {
    queries: [
      { query: 'kept', tenant: NASTY, relevant: ['1'], from: { recall: 1, ndcg: 1 }, to: { recall: 1, ndcg: 1 } },
      { query: NASTY, relevant: ['2'], from: { recall: 1, ndcg: 1 }, to: { recall: 0, ndcg: 0 } },
    ],
    unknownKeys: [NASTY],
    unfindableKeys: ['4711'],
    leftOut: 1,
    withoutTenant: 0,
    recall: { from: bootstrap([1, 1]), to: bootstrap([1, 0]), difference: bootstrap([0, -1]) },
    ndcg: { from: bootstrap([1, 1]), to: bootstrap([1, 0]), difference: bootstrap([0, -1]) },
  },
};

const EMPTY: EvalReport = {
  ...FULL,
  source: 'empty',
  rows: 0,
  from: space('a', undefined),
  to: space('b', undefined),
  gates: [],
  recall: undefined,
  overlap: { rows: 0, mean: null, counts: new Array<number>(11).fill(0) },
  labelled: undefined,
};

/** All figures alike: scales have no width. */
const FLAT: EvalReport = {
  ...FULL,
  from: { ...space('a', [0, 0]), distances: histogram([0.5], 24) },
  to: { ...space('b', [0, 0]), distances: histogram([0.5], 24) },
  recall: { queries: 1, exactP50: 0, points: [{ efSearch: 80, recall: 0, p50: 0 }] },
};

describe.each([
  ['full', FULL],
  ['empty', EMPTY],
  ['flat', FLAT],
])('the page of a report (%s)', (_name, report) => {
  const html = renderHtml(report);

  test('is whole, and asks for nothing from elsewhere', () => {
    expect(html).toMatch(/^<!doctype html>/);
    expect(html).not.toMatch(/<script|<link|<img|<iframe|src=|href=|url\(|@import|https?:|\son\w+=/);
    expect(html).not.toMatch(/NaN|undefined|Infinity|\[object/);
    expect(openTags(html)).toEqual([]);
  });

  test('texts are texts', () => {
    expect(html).not.toContain('<script>');
    if (report !== EMPTY)
      expect(html).toContain('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;so&#39; on');
  });

  test('charts stay within their frames, and their labels apart', () => {
    for (const [svg] of html.matchAll(/<svg[\s\S]*?<\/svg>/g)) {
      for (const [, name, value] of svg.matchAll(/\s(x|y|x1|x2|y1|y2|cx|cy)="(-?[\d.]+)"/g)) {
        const most = name?.includes('x') ? 560 : 240;
        expect(Number(value)).toBeGreaterThanOrEqual(0);
        expect(Number(value)).toBeLessThanOrEqual(most);
      }
      for (const [, x, y, width, height] of svg.matchAll(
        /x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"/g,
      )) {
        expect(Number(x) + Number(width)).toBeLessThanOrEqual(560);
        expect(Number(y) + Number(height)).toBeLessThanOrEqual(201);
      }
      const under = [...svg.matchAll(/<text class="tick" x="([\d.]+)" y="216"[^>]*>([^<]+)</g)];
      // 6.5 units a digit at 11 pixels.
      const spans = under.map(([, x, text]) => ({ at: Number(x), half: ((text?.length ?? 0) * 6.5) / 2 }));
      for (const [i, span] of spans.entries()) {
        const next = spans[i + 1];
        if (next) expect(next.at - span.at).toBeGreaterThan(span.half + next.half);
      }
    }
  });
});

test('every colour can be read, in light and in dark', () => {
  const style = /<style>([\s\S]*?)<\/style>/.exec(renderHtml(FULL))?.[1] ?? '';
  const schemes = [...style.matchAll(/:root \{([^}]*)\}/g)].map(([, body]) =>
    Object.fromEntries([...(body ?? '').matchAll(/--(\w+): (#\w{6})/g)].map(([, name, value]) => [name, value])),
  );
  expect(schemes).toHaveLength(2);
  for (const scheme of schemes) {
    for (const ground of ['card', 'page']) {
      for (const name of ['ink', 'quiet', 'pass', 'fail', 'info', 'old', 'new']) {
        expect(contrast(scheme[name] ?? '', scheme[ground] ?? ''), `${name} on ${ground}`).toBeGreaterThan(4.5);
      }
    }
  }
});

test('what the page says', () => {
  const html = renderHtml(FULL);
  expect(html).toContain('1 of 3 gates do not hold: coverage');
  expect(html).toContain('1,234,567 rows');
  for (const word of ['fail', 'pass', 'info']) expect(html).toContain(`<span class="badge ${word}">${word}</span>`);
  expect((html.match(/<svg/g) ?? []).length).toBe(6);
  expect(html).toContain('bound 0.98');
  expect(html).toMatch(/<g class="slope worse">/);
  expect(renderHtml(EMPTY).match(/<svg/g)).toBeNull();
});

test('the text is plain, and its worst query comes first', () => {
  const text = renderText(FULL);
  expect(text).toMatch(/FAIL {2}coverage {2}3 +0 /);
  expect(text).toMatch(/info {2}overlap +– +–\n/);
  expect(text).toMatch(/pass {2}recall +0\.9877 +0\.98 +fine/);
  expect(text).toMatch(/old {2}openai\/text-embedding-3-small@1536#01234567 {2}vector\(256\) {2}1\.23 +17\.5/);
  expect(text).toMatch(/recall@10 {2}1\.000 {2}0\.500 {2}−0\.500 +−1\.000 to \+0\.000/);
  expect(text.indexOf('1.00 → 0.00')).toBeLessThan(text.indexOf('1.00 → 1.00'));
  expect(renderText(EMPTY)).not.toMatch(/NaN|undefined|null/);
  expect(renderText(FLAT)).not.toMatch(/NaN|undefined|null/);
});

/** What is left open after the last tag; throws where one is closed that was not open. */
function openTags(html: string): string[] {
  const open: string[] = [];
  for (const [tag, slash, name] of html.replace(/^<!doctype html>/, '').matchAll(/<(\/?)([a-z0-9]+)(?:\s[^<>]*)?>/g)) {
    if (slash === '/') {
      if (open.pop() !== name) throw new Error(`</${name}> closes what is not open`);
    } else if (!tag.endsWith('/>') && !['meta', 'br'].includes(name ?? '')) open.push(name ?? '');
  }
  return open;
}

/** WCAG 2.1, contrast ratio. */
function contrast(a: string, b: string): number {
  const luminance = (colour: string) => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
      const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [light = 0, dark = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}
