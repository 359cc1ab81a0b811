import { describe, expect, test } from 'vitest';
import { DEFAULT_GATES } from '../../src/config/config.js';
import type { LabelledScores, ScoredQuery } from '../../src/reembed/eval/labelled.js';
import { bootstrap } from '../../src/reembed/eval/measures.js';
import { labelledGate } from '../../src/reembed/gates/labelled.js';

/** Scores of queries under the new model; the old one has 0.5 of each. */
function scores(values: readonly number[], more: Partial<LabelledScores> = {}): LabelledScores {
  const queries = values.map((value, i): ScoredQuery => {
    const [from, to] = [0.5, value].map((score) => ({ recall: score, ndcg: score }));
    return { query: `query ${i}`, relevant: ['1'], from: from ?? never(), to: to ?? never() };
  });
  const old = values.map(() => 0.5);
  const compared = {
    from: bootstrap(old),
    to: bootstrap(values),
    difference: bootstrap(values.map((value) => value - 0.5)),
  };
  const aside = { unknownKeys: [], unfindableKeys: [], leftOut: 0, withoutTenant: 0 };
  return { queries, ...aside, recall: compared, ndcg: compared, ...more };
}

function never(): never {
  throw new TypeError('never');
}

/** Half of them gained and half of them lost, by as much. */
const noisy = (count: number, by: number) => Array.from({ length: count }, (_, i) => 0.5 + (i % 2 === 0 ? by : -by));
const gateOf = (given: LabelledScores, labelledDrop = 0.02) =>
  labelledGate(given, { settings: { ...DEFAULT_GATES, labelledDrop } });

describe('labelled', () => {
  test.each([1, 3, 200])('%i queries with the same answers have an interval of no width, and pass', (count) => {
    const gate = gateOf(scores(noisy(count, 0)));
    expect(gate).toMatchObject({ name: 'labelled', passed: true, value: 0, bound: -0.02 });
    expect(gate.note).toMatch(/recall@10 0\.500 → 0\.500 \(\+0\.000, 95 %: \+0\.000 to \+0\.000\)/);
    expect(gate.note).not.toMatch(/ruled out/);
  });

  test('losses that gains cancel out block while the queries are too few to tell', () => {
    const few = gateOf(scores(noisy(12, 0.5)));
    expect(few).toMatchObject({ passed: false, bound: -0.1 });
    expect(few.value).toBeLessThan(-0.2);
    expect(few.note).toMatch(
      /\(\+0\.000, 95 %: −0\.\d+ to \+0\.\d+\); a fall of 0\.\d+ is not ruled out, and one beyond 0\.1 must be: more queries would narrow it; or waive this gate with `reembed accept`$/,
    );
    // Of models that differ as much as such do, forty are enough; that a small fall may be hidden is said.
    const enough = gateOf(scores(noisy(40, 0.25)));
    expect(enough).toMatchObject({ passed: true, value: 0, bound: -0.02 });
    expect(enough.note).toMatch(/; a fall of 0\.0\d+ is not ruled out: more queries would narrow it$/);
    expect(gateOf(scores(noisy(400, 0.5)))).toMatchObject({ passed: true });
    expect(gateOf(scores(noisy(12, 0.5)), 0.5)).toMatchObject({ passed: true });
  });

  test('a mean fall beyond what is allowed blocks, however sure it is', () => {
    const sure = gateOf(scores(new Array<number>(100).fill(0.47)));
    expect(sure).toMatchObject({ passed: false, bound: -0.02 });
    expect(sure.value).toBeCloseTo(-0.03, 12);
    expect(sure.note).toMatch(
      /; worse by more than 0\.02: mend what was lost, or waive this gate with `reembed accept`$/,
    );
    const chance = gateOf(scores(noisy(400, 0.5).map((value) => value - 0.03)));
    expect(chance).toMatchObject({ passed: false, bound: -0.02 });
    expect(chance.note).toMatch(
      /worse by more than 0\.02, though by chance perhaps, since the interval reaches 0, and more/,
    );
    expect(gateOf(scores(new Array<number>(100).fill(0.49)))).toMatchObject({ passed: true });
  });

  test('where fewer than half of the queries could be asked, a person decides', () => {
    const gate = gateOf(scores(noisy(5, 0), { leftOut: 6, unfindableKeys: ['41', '42'] }));
    expect(gate).toMatchObject({ passed: false, value: '5 of 11 asked', bound: 'half of them' });
    expect(gate.note).toMatch(
      /; too few of those that were given: mend their keys, or waive this gate with `reembed accept`; 2 keys are of rows that no search finds \(41, 42\); 6 queries were left out$/,
    );
    expect(gateOf(scores(noisy(6, 0), { leftOut: 6 }))).toMatchObject({ passed: true });
  });
});
