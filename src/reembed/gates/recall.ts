import { recallCurve } from '../../search/recall-curve.js';
import { MAX_EF_SEARCH } from '../../search/request.js';
import { type Gate, type GateContext, K, SEED } from './context.js';
import type { IndexUse } from './index-use.js';

/** Tried where the configured hnsw.ef_search is not enough: pgvector allows up to 1000. */
export const EF_LADDER: readonly number[] = [40, 80, 120, 160, 240, 400, 640, MAX_EF_SEARCH];

/**
 * The index of the new space finds enough of what an exact search finds, at the hnsw.ef_search that is configured, for
 * the tenant of each row that is asked for, where the source has tenants. Where it does not, the one that does is said;
 * the gate still does not hold, since searches would have to use it.
 */
export async function recallGate(
  { db, source, to, settings, signal }: Pick<GateContext, 'db' | 'source' | 'to' | 'settings' | 'signal'>,
  { answers }: IndexUse,
): Promise<Gate> {
  const { recall: bound, efSearch, recallQueries } = settings;
  const gate = { name: 'recall', bound };
  if (to.index.kind === 'none') return { ...gate, passed: true, value: 1, note: 'searches are exact' };
  if (!answers) {
    return {
      ...gate,
      passed: false,
      value: null,
      note: 'no index answers, so there is none to measure: see the gate index',
    };
  }
  const options = { sample: recallQueries, k: K, seed: SEED, signal };
  const { points, queries } = await recallCurve(db, source, to, [efSearch], options);
  const value = points[0]?.recall ?? Number.NaN;
  const again = points[0]?.again ?? 0;
  const slow =
    again === 0
      ? ''
      : `; the index left ${again} of them short of ${K}, which were asked once more, exactly: look at hnsw.max_scan_tuples`;
  const what = `recall@${K} of ${queries} stored vectors at ef_search ${efSearch}${slow}`;
  if (queries === 0)
    return { ...gate, passed: true, value: null, note: 'there are no vectors with neighbours to ask for' };
  if (value >= bound) return { ...gate, passed: true, value, note: what };
  const ladder = EF_LADDER.filter((ef) => ef > efSearch);
  const more = ladder.length === 0 ? [] : (await recallCurve(db, source, to, ladder, options)).points;
  const enough = more.find((point) => point.recall >= bound);
  const best = more.at(-1);
  const advice = enough
    ? `ef_search ${enough.efSearch} reaches ${percent(enough.recall)}: search with it (\`efSearch\`) and set reembed.gates.efSearch`
    : `even ef_search ${best?.efSearch ?? efSearch} reaches only ${percent(best?.recall ?? value)}: build the index with a larger m and ef_construction`;
  return { ...gate, passed: false, value, note: `${what}; ${advice}` };
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
