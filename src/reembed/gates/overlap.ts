import { sampleStored } from '../../search/recall-curve.js';
import { searchSpace } from '../../search/space-search.js';
import { meanOf } from '../eval/measures.js';
import { type Gate, type GateContext, K, SEED } from './context.js';

type OverlapContext = Pick<GateContext, 'db' | 'source' | 'from' | 'to' | 'settings' | 'signal'>;

/** One row's neighbours under both models. */
export interface Overlap {
  readonly key: string;
  /** Part of the 10 nearest rows that both have. */
  readonly shared: number;
  /** Distances of the 10 nearest, nearest first. */
  readonly fromDistances: readonly number[];
  readonly toDistances: readonly number[];
}

/** How much of what a search finds stays the same: for information, since a better model finds something else. */
export function overlapGate(overlaps: readonly Overlap[]): Gate {
  const gate = { name: 'overlap', passed: true, bound: null, advisory: true };
  if (overlaps.length === 0) return { ...gate, value: null, note: 'no row has vectors of both models' };
  const value = meanOf(overlaps.map(({ shared }) => shared));
  return { ...gate, value, note: `part of the ${K} nearest rows that both models have, of ${overlaps.length} rows` };
}

/** Searches both spaces for sampled rows by their own vectors, as `search` would. */
export async function readOverlaps(context: OverlapContext): Promise<Overlap[]> {
  const { db, source, from, to, settings, signal } = context;
  const old = new Map((await sampleStored(db, source, from, settings.overlapRows, SEED)).map((row) => [row.key, row]));
  const overlaps: Overlap[] = [];
  for (const { key, vector, tenant } of await sampleStored(db, source, to, settings.overlapRows, SEED)) {
    const before = old.get(key);
    if (!before) continue;
    signal.throwIfAborted();
    const nearestIn = (space: typeof from, query: Float32Array) =>
      searchSpace(db, source, space, async ({ ask }) => {
        const { near } = await ask({ query, k: K + 1, efSearch: settings.efSearch, way: 'planner', tenant });
        return near.filter((row) => row.key !== key).slice(0, K);
      });
    const [was, is] = [await nearestIn(from, before.vector), await nearestIn(to, vector)];
    const keys = new Set(was.map((row) => row.key));
    const most = Math.max(was.length, is.length);
    if (most === 0) continue;
    overlaps.push({
      key,
      shared: is.filter((row) => keys.has(row.key)).length / most,
      fromDistances: was.map(({ distance }) => distance),
      toDistances: is.map(({ distance }) => distance),
    });
  }
  return overlaps;
}
