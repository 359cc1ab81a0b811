import type { Space } from '../../catalog/space.js';
import { recallCurve, sampleStored } from '../../search/recall-curve.js';
import { searchSpace } from '../../search/space-search.js';
import { type GateContext, K, SEED } from '../gates/context.js';
import type { Overlap } from '../gates/overlap.js';
import { EF_LADDER } from '../gates/recall.js';
import { measureGates } from '../gates/run.js';
import { meanOf, quantile } from './measures.js';
import { type EvalReport, histogram, type Latency, type RecallReport, type SpaceReport } from './report.js';

const BINS = 24;

/**
 * Measures what the gates do and more, whatever state the migration is in, and changes nothing. The texts of a few rows
 * and the labelled queries are embedded, which may cost.
 */
export async function evaluate(context: GateContext): Promise<EvalReport> {
  const { source, from, to, settings } = context;
  const { gates, rows, overlaps, labelled, indexed } = await measureGates(context, { payAnyway: true });
  return {
    source: source.name,
    at: new Date().toISOString(),
    k: K,
    efSearch: settings.efSearch,
    rows,
    from: await spaceReport(
      context,
      from,
      overlaps.flatMap(({ fromDistances }) => fromDistances),
    ),
    to: await spaceReport(
      context,
      to,
      overlaps.flatMap(({ toDistances }) => toDistances),
    ),
    gates,
    recall: indexed ? await recallReport(context) : undefined,
    overlap: overlapReport(overlaps),
    labelled,
  };
}

async function spaceReport(context: GateContext, space: Space, distances: readonly number[]): Promise<SpaceReport> {
  const { spec, fingerprint, dimensions, type, metric, store, state } = space;
  const latency = await latencyOf(context, space);
  return {
    model: spec,
    fingerprint,
    dimensions,
    type,
    metric,
    store,
    state,
    latency,
    distances: histogram(distances, BINS),
  };
}

/** Stored vectors are searched for twice; the second time counts, when what they read is in memory. */
async function latencyOf({ db, source, settings, signal }: GateContext, space: Space): Promise<Latency> {
  const times: number[] = [];
  for (const { vector, tenant } of await sampleStored(db, source, space, settings.recallQueries, SEED)) {
    signal.throwIfAborted();
    const question = { query: vector, k: K, efSearch: settings.efSearch, way: 'planner' as const, tenant };
    times.push(
      await searchSpace(db, source, space, async ({ ask }) => {
        await ask(question);
        return (await ask(question)).ms;
      }),
    );
  }
  return { searches: times.length, p50: quantileOf(times, 0.5), p95: quantileOf(times, 0.95) };
}

async function recallReport({ db, source, to, settings, signal }: GateContext): Promise<RecallReport> {
  const steps = [...new Set([...EF_LADDER, settings.efSearch])].sort((a, b) => a - b);
  const options = { sample: settings.recallQueries, k: K, seed: SEED, signal };
  const { queries, exactMs, points } = await recallCurve(db, source, to, steps, options);
  return {
    queries,
    exactP50: quantileOf(exactMs, 0.5),
    points:
      queries === 0 ? [] : points.map(({ efSearch, recall, ms }) => ({ efSearch, recall, p50: quantileOf(ms, 0.5) })),
  };
}

function overlapReport(overlaps: readonly Overlap[]): EvalReport['overlap'] {
  const counts = new Array<number>(K + 1).fill(0);
  for (const { shared } of overlaps) {
    const at = Math.round(shared * K);
    counts[at] = (counts[at] ?? 0) + 1;
  }
  const mean = overlaps.length === 0 ? null : meanOf(overlaps.map(({ shared }) => shared));
  return { rows: overlaps.length, mean, counts };
}

function quantileOf(values: readonly number[], share: number): number | null {
  return values.length === 0
    ? null
    : quantile(
        [...values].sort((a, b) => a - b),
        share,
      );
}
