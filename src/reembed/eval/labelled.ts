import type { Space } from '../../catalog/space.js';
import { searchSpace } from '../../search/space-search.js';
import { type GateContext, K } from '../gates/context.js';
import { type AskableQuery, askable } from './askable.js';
import { embedSample } from './embed.js';
import { bootstrap, type Interval, type Scores, scoreAnswers } from './measures.js';

/** A labelled query under the old and the new model. */
export interface ScoredQuery {
  readonly query: string;
  /** Absent where all rows were searched. */
  readonly tenant?: string;
  /** Keys that answer it and that a search may find. */
  readonly relevant: readonly string[];
  readonly from: Scores;
  readonly to: Scores;
}

export interface LabelledScores {
  readonly queries: readonly ScoredQuery[];
  /** Keys that the file names and the source does not have. */
  readonly unknownKeys: readonly string[];
  /** Keys of rows that no search of their query finds: the filter leaves them out, they have no text, or another tenant. */
  readonly unfindableKeys: readonly string[];
  /** Queries left out: no search finds any of their keys, or a model rejects their text. */
  readonly leftOut: number;
  /** Of those that were asked: how many name no tenant although the source has tenants. */
  readonly withoutTenant: number;
  readonly recall: Compared;
  readonly ndcg: Compared;
}

/** One measure: both means, and the mean of the differences (new less old) with its paired interval. */
export interface Compared {
  readonly from: Interval;
  readonly to: Interval;
  readonly difference: Interval;
}

/** Embeds the queries with both models and searches both spaces, as `search` would. */
export async function scoreLabelled(context: GateContext): Promise<LabelledScores> {
  const { source, from, to, migration, models } = context;
  const { queries: asked, unknownKeys, unfindableKeys } = await askable(context.db, source, migration.queries);
  const texts = asked.map(({ query }) => query);
  const [before, after] = [
    await embedSample(context, await models.forSpace(from), texts, 'query'),
    await embedSample(context, await models.forSpace(to), texts, 'query'),
  ];
  const queries: ScoredQuery[] = [];
  for (const [i, { query, tenant, relevant }] of asked.entries()) {
    const [old, now] = [before.vectors[i], after.vectors[i]];
    if (!old || !now) continue;
    context.signal.throwIfAborted();
    queries.push({
      query,
      ...(tenant !== undefined && { tenant }),
      relevant: [...relevant],
      from: scoreAnswers(await answers(context, from, old, tenant), relevant, K),
      to: scoreAnswers(await answers(context, to, now, tenant), relevant, K),
    });
  }
  return {
    queries,
    unknownKeys,
    unfindableKeys,
    leftOut: migration.queries.length - queries.length,
    withoutTenant: source.tenantColumn === undefined ? 0 : queries.filter(({ tenant }) => tenant === undefined).length,
    recall: compared(queries, (scores) => scores.recall),
    ndcg: compared(queries, (scores) => scores.ndcg),
  };
}

function compared(queries: readonly ScoredQuery[], of: (scores: Scores) => number): Compared {
  const from = queries.map((query) => of(query.from));
  const to = queries.map((query) => of(query.to));
  return {
    from: bootstrap(from),
    to: bootstrap(to),
    difference: bootstrap(to.map((value, i) => value - (from[i] ?? 0))),
  };
}

function answers(
  { db, source, settings }: GateContext,
  space: Space,
  query: Float32Array,
  tenant: AskableQuery['tenant'],
): Promise<string[]> {
  return searchSpace(db, source, space, async ({ ask }) => {
    const { near } = await ask({ query, k: K, efSearch: settings.efSearch, way: 'planner', tenant });
    return near.map(({ key }) => key);
  });
}
