import {
  fromSource,
  keyArrayParams,
  keyArrays,
  keyColumnNames,
  keyJoinSql,
  keySql,
  parseKey,
} from '../../catalog/expressions.js';
import type { LabelledQuery } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import type { Database } from '../../db/database.js';
import { sqlState } from '../../db/errors.js';
import { searchSpace } from '../../search/space-search.js';
import { type GateContext, K } from '../gates/context.js';
import { embedSample } from './embed.js';
import { bootstrap, type Interval, type Scores, scoreAnswers } from './measures.js';

/** A labelled query under the old and the new model. */
export interface ScoredQuery {
  readonly query: string;
  /** Keys that answer it and are there. */
  readonly relevant: readonly string[];
  readonly from: Scores;
  readonly to: Scores;
}

export interface LabelledScores {
  readonly queries: readonly ScoredQuery[];
  /** Keys that the file names and the source does not have. */
  readonly unknownKeys: readonly string[];
  /** Queries left out: none of their keys is there, or a model rejects their text. */
  readonly leftOut: number;
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
  const { known, unknown } = await knownKeys(context.db, source, migration.queries);
  const asked = migration.queries.flatMap(({ query, relevant }) => {
    const keys = relevant.flatMap((key) => known.get(key) ?? []);
    return keys.length === 0 ? [] : [{ query, relevant: new Set(keys) }];
  });
  const texts = asked.map(({ query }) => query);
  const [before, after] = [
    await embedSample(context, await models.forSpace(from), texts, 'query'),
    await embedSample(context, await models.forSpace(to), texts, 'query'),
  ];
  const queries: ScoredQuery[] = [];
  for (const [i, { query, relevant }] of asked.entries()) {
    const [old, now] = [before.vectors[i], after.vectors[i]];
    if (!old || !now) continue;
    context.signal.throwIfAborted();
    queries.push({
      query,
      relevant: [...relevant],
      from: scoreAnswers(await answers(context, from, old), relevant, K),
      to: scoreAnswers(await answers(context, to, now), relevant, K),
    });
  }
  return {
    queries,
    unknownKeys: unknown,
    leftOut: migration.queries.length - queries.length,
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

function answers({ db, source, settings }: GateContext, space: Space, query: Float32Array): Promise<string[]> {
  return searchSpace(db, source, space, async ({ ask }) => {
    const { near } = await ask({ query, k: K, efSearch: settings.efSearch, way: 'planner' });
    return near.map(({ key }) => key);
  });
}

/** The source's own text of each key that is there, by the text in the file: `007` is the row 7. */
export async function knownKeys(
  db: Database,
  source: Source,
  queries: readonly LabelledQuery[],
): Promise<{ known: Map<string, string>; unknown: string[] }> {
  const named = [...new Set(queries.flatMap(({ relevant }) => relevant))];
  const written = named.filter((key) => isKey(source, key));
  const known = new Map((await lookUp(db, source, written)).map(({ named: key, key: own }) => [key, own]));
  return { known, unknown: named.filter((key) => !known.has(key)) };
}

function isKey(source: Source, key: string): boolean {
  try {
    return parseKey(source.key, key).length === source.key.length;
  } catch {
    return false;
  }
}

type Named = { named: string; key: string };

/** By halves where one is no value of the key's type. */
async function lookUp(db: Database, source: Source, keys: readonly string[]): Promise<Named[]> {
  if (keys.length === 0) return [];
  try {
    return await db.tx((tx) =>
      tx.query<Named>(
        `SELECT __fv_i.__fv_key AS named, ${keySql(source.key, source.relation.table)} AS key
         FROM unnest(${keyArrayParams(source.key, 2)}, $1::text[]) AS __fv_i(${[...keyColumnNames(source.key), '__fv_key'].join(', ')})
         JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')}`,
        [keys, ...keyArrays(source.key, keys)],
      ),
    );
  } catch (error) {
    if (!sqlState(error)?.startsWith('22')) throw error;
    if (keys.length === 1) return [];
    const middle = keys.length >> 1;
    return [...(await lookUp(db, source, keys.slice(0, middle))), ...(await lookUp(db, source, keys.slice(middle)))];
  }
}
