import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { openStore } from '../store/index.js';
import { vectorCodec } from '../store/vector-codec.js';
import { readableOf, sampleKeys } from '../store/vectors.js';
import { DEFAULT_K } from './request.js';
import { type Neighbour, searchSpace } from './space-search.js';
import { tenantsOf } from './tenants.js';

export interface CurveOptions {
  /** Stored vectors that are asked for; 50 unless told. */
  readonly sample?: number | undefined;
  /** Neighbours that are compared; 10 unless told. */
  readonly k?: number | undefined;
  /** Which rows are sampled. */
  readonly seed?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What an index found at one hnsw.ef_search. */
export interface RecallPoint {
  readonly efSearch: number;
  /** Mean part of the k nearest rows that the index found, 0 to 1; NaN where there was nothing to ask. */
  readonly recall: number;
  /** Of each question. */
  readonly ms: readonly number[];
  /** Questions that the index left short of k although there are so many rows: they were asked once more, exactly. */
  readonly again: number;
}

export interface RecallCurve {
  /** How many questions each point is the mean of. */
  readonly queries: number;
  readonly exactMs: readonly number[];
  readonly points: readonly RecallPoint[];
}

/** Distances of one pair of vectors may differ in the last bits between two plans. */
const SAME = 1e-6;

/**
 * How much of what an exact search finds the index finds, at several `hnsw.ef_search`. Stored vectors are the questions,
 * each without itself among the answers, and among its own tenant's rows where the source has tenants; a hit counts by
 * its distance, so that equal vectors do not look like misses. Each question is one snapshot, in which all answers are
 * given by the statement of `search`. That the index is there and fits is for the caller to know: without it, the
 * answers are exact.
 */
export async function recallCurve(
  db: Database,
  source: Source,
  space: Space,
  efSearches: readonly number[],
  { sample = 50, k = DEFAULT_K, seed = 1, signal }: CurveOptions = {},
): Promise<RecallCurve> {
  const points = efSearches.map((efSearch) => ({ efSearch, shares: [] as number[], ms: [] as number[], again: 0 }));
  const exactMs: number[] = [];
  for (const { key, vector, tenant } of await sampleStored(db, source, space, sample, seed)) {
    signal?.throwIfAborted();
    await searchSpace(db, source, space, async ({ ask }) => {
      const others = (near: readonly Neighbour[]) => near.filter((row) => row.key !== key).slice(0, k);
      const question = { query: vector, k: k + 1, tenant };
      const exact = await ask({ ...question, efSearch: k + 1, way: 'exact' });
      const nearest = others(exact.near);
      if (nearest.length === 0) return;
      exactMs.push(exact.ms);
      for (const point of points) {
        const found = await ask({ ...question, efSearch: Math.max(point.efSearch, k + 1), way: 'index' });
        point.ms.push(found.ms);
        if (found.again && exact.near.length >= question.k) point.again += 1;
        point.shares.push(shareFound(nearest, others(found.near)));
      }
    });
  }
  return {
    queries: exactMs.length,
    exactMs,
    points: points.map(({ efSearch, shares, ms, again }) => ({ efSearch, recall: mean(shares), ms, again })),
  };
}

/** Part of the exact answer that was found, by distance: rows as near as its last one are as good. */
export function shareFound(exact: readonly Neighbour[], found: readonly Neighbour[]): number {
  const farthest = exact.at(-1)?.distance;
  if (farthest === undefined) return 1;
  const bound = farthest + SAME * Math.max(1, Math.abs(farthest));
  return Math.min(1, found.filter(({ distance }) => distance <= bound).length / exact.length);
}

/** Fresh vectors of the space from all over the source, at most `count`, each with its row's tenant, if it has one. */
export async function sampleStored(db: Database, source: Source, space: Space, count: number, seed: number) {
  const extension = await db.vectorExtension();
  const store = openStore(source, space, await vectorCodec(db, extension ?? { schema: 'public', version: '' }));
  const keys = await sampleKeys(db, source, count, seed);
  const rows = await readableOf(keys, (some) => db.tx((tx) => store.freshVectors(tx, some)));
  const tenants = await tenantsOf(
    db,
    source,
    rows.map(({ key }) => key),
  );
  return rows.map((row) => ({ ...row, tenant: tenants.get(row.key) }));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
