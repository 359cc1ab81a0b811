import type { Compared, LabelledScores } from '../eval/labelled.js';
import type { Interval } from '../eval/measures.js';
import { type Gate, type GateContext, K } from './context.js';

/**
 * The new model answers labelled queries about as well as the old one: neither mean recall@10 nor mean nDCG@10 falls by
 * more than is allowed. The bootstrap interval does not decide, since few queries are no excuse for a large fall; it says
 * how sure that is. A fall within what is allowed passes even where it is certain.
 */
export function labelledGate(scores: LabelledScores, { settings }: Pick<GateContext, 'settings'>): Gate {
  const { queries, recall, ndcg } = scores;
  const gate = { name: 'labelled', bound: -settings.labelledDrop };
  const aside = asideOf(scores);
  if (queries.length === 0) {
    const note = `no labelled query could be asked${aside}: give queries whose keys are in the source`;
    return { ...gate, passed: false, value: null, note };
  }
  const worst = Math.min(recall.difference.mean, ndcg.difference.mean);
  const passed = worst >= -settings.labelledDrop;
  const measured = `${queries.length} labelled queries: ${sentence(`recall@${K}`, recall)}; ${sentence(`nDCG@${K}`, ndcg)}`;
  const verdict = passed
    ? ''
    : `; worse by more than ${settings.labelledDrop}${unsure(recall, ndcg, settings.labelledDrop)}`;
  return { ...gate, passed, value: worst, note: `${measured}${verdict}${aside}` };
}

function asideOf({ unknownKeys, leftOut }: LabelledScores): string {
  const unknown =
    unknownKeys.length === 0
      ? ''
      : `; ${unknownKeys.length} keys are not in the source (${unknownKeys.slice(0, 3).join(', ')})`;
  return leftOut === 0 ? unknown : `${unknown}; ${leftOut} queries were left out`;
}

function unsure(recall: Compared, ndcg: Compared, allowed: number): string {
  const decided = [recall, ndcg].filter(({ difference }) => difference.mean < -allowed);
  if (decided.some(({ difference }) => difference.high < 0)) return '';
  return ', though by chance perhaps, since the interval reaches 0: more queries would tell';
}

function sentence(name: string, { from, to, difference }: Compared): string {
  return `${name} ${from.mean.toFixed(3)} → ${to.mean.toFixed(3)} (${signed(difference.mean)}, 95 %: ${span(difference)})`;
}

function span({ low, high }: Interval): string {
  return `${signed(low)} to ${signed(high)}`;
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
}
