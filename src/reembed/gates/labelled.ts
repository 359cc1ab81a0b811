import type { Compared, LabelledScores } from '../eval/labelled.js';
import type { Interval } from '../eval/measures.js';
import { type Gate, type GateContext, K } from './context.js';

/**
 * How far below the allowed fall the interval may reach. Where the differences of the queries have a standard deviation of
 * 0.25, it reaches so far below its mean at 38 of them: from there on the mean decides, with fewer the interval does.
 */
const DOUBT = 0.08;
const MORE = 'more queries would narrow it';
const ACCEPT = 'or waive this gate with `reembed accept`';

/**
 * The new model answers labelled queries about as well as the old one: neither mean recall@10 nor mean nDCG@10 falls by
 * more than is allowed, and the bootstrap interval of neither difference reaches below that by more than DOUBT. So chance
 * excuses no large fall, and few queries let none pass; that the whole interval stays within what is allowed is not asked,
 * since a model that is as good would need hundreds of queries for that.
 */
export function labelledGate(scores: LabelledScores, { settings }: Pick<GateContext, 'settings'>): Gate {
  const { queries, leftOut, recall, ndcg } = scores;
  const allowed = settings.labelledDrop;
  const gate = { name: 'labelled', passed: false, value: null, bound: -allowed };
  const aside = asideOf(scores);
  if (queries.length === 0) {
    return { ...gate, note: `no labelled query could be asked${aside}: give queries whose keys a search can find` };
  }
  const differences = [recall.difference, ndcg.difference];
  const mean = Math.min(...differences.map((difference) => difference.mean));
  const low = Math.min(...differences.map((difference) => difference.low));
  const furthest = -rounded(allowed + DOUBT);
  const measured = `${queries.length} labelled queries: ${sentence(`recall@${K}`, recall)}; ${sentence(`nDCG@${K}`, ndcg)}`;
  const note = (verdict: string) => `${measured}${verdict}${aside}`;
  if (mean < -allowed) {
    const verdict = `; worse by more than ${allowed}${unsure(differences, allowed)}: mend what was lost, ${ACCEPT}`;
    return { ...gate, value: mean, note: note(verdict) };
  }
  if (low < furthest) {
    const verdict = `; a fall of ${rounded(-low)} is not ruled out, and one beyond ${-furthest} must be: ${MORE}; ${ACCEPT}`;
    return { ...gate, value: low, bound: furthest, note: note(verdict) };
  }
  if (queries.length < leftOut) {
    const verdict = `; too few of those that were given: mend their keys, ${ACCEPT}`;
    const asked = `${queries.length} of ${queries.length + leftOut} asked`;
    return { ...gate, value: asked, bound: 'half of them', note: note(verdict) };
  }
  const verdict = low < -allowed ? `; a fall of ${rounded(-low)} is not ruled out: ${MORE}` : '';
  return { ...gate, passed: true, value: mean, note: note(verdict) };
}

function asideOf({ unknownKeys, unfindableKeys, leftOut, withoutTenant }: LabelledScores): string {
  const asides = [
    keysText(unknownKeys, 'are not in the source'),
    keysText(unfindableKeys, 'are of rows that no search finds'),
    leftOut === 0 ? '' : `; ${leftOut} queries were left out`,
    withoutTenant === 0 ? '' : `; ${withoutTenant} queries name no "tenant" and were asked of all`,
  ];
  return asides.join('');
}

function keysText(keys: readonly string[], what: string): string {
  return keys.length === 0 ? '' : `; ${keys.length} keys ${what} (${keys.slice(0, 3).join(', ')})`;
}

function unsure(differences: readonly Interval[], allowed: number): string {
  const decided = differences.filter(({ mean }) => mean < -allowed);
  if (decided.some(({ high }) => high < 0)) return '';
  return `, though by chance perhaps, since the interval reaches 0, and ${MORE}`;
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

function rounded(value: number): number {
  return Number(value.toFixed(3));
}
