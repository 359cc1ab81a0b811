import type { Source } from '../../../catalog/source.js';
import type { ThrottleSettings } from '../../../config/throttle.js';
import type { Database } from '../../../db/database.js';
import { classify } from '../../../db/errors.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { BACKGROUND_FLOOR, HOLD_FROM, judge, READ_MS, type Reader, type Reading } from '../reading.js';
import { Baseline, Smoothed } from './latencies.js';
import { KeySample, lookUp } from './sample-rows.js';

type Settings = Pick<ThrottleSettings, 'probeMs' | 'probeBaselineTimes' | 'probeSql'>;

/** One reading counts for no more than this many bounds, so that a single stall is forgotten within a few ticks. */
const MOST_BOUNDS = 4;

/**
 * What a statement of the app takes at present, as this process measures it: `probeSql`, or a row of the source by its
 * key. Smoothed, since one slow statement says nothing.
 */
export function appLatency(settings: Settings, source: Pick<Source, 'relation' | 'key'>): Reader | undefined {
  const { probeMs, probeBaselineTimes, probeSql } = settings;
  if (probeMs === null) return undefined;
  const gauge = { name: 'app_latency', unit: 'ms', bound: probeMs };
  const smoothed = new Smoothed();
  const baseline = new Baseline();
  const sample = new KeySample(source);
  // One that is over the bound by far is not waited for.
  const limitMs = Math.max(READ_MS, Math.ceil(probeMs * 2));

  const bound = (): number => {
    const rest = probeBaselineTimes === null ? undefined : baseline.ms();
    return rest === undefined || probeBaselineTimes === null
      ? probeMs
      : Math.min(probeMs, Math.max(1, rest * probeBaselineTimes));
  };

  return {
    gauges: [gauge],
    async read(db, share): Promise<Reading[]> {
      const ms = await probe(db);
      if (ms === 'no rows') {
        const note = 'the source has no rows to look up';
        return [{ signal: { ...gauge, state: 'fine', value: null, note }, effect: 'rise' }];
      }
      if (share <= BACKGROUND_FLOOR && ms !== undefined) baseline.add(ms);
      const present = bound();
      const value = smoothed.add(Math.min(ms ?? Number.POSITIVE_INFINITY, present * MOST_BOUNDS));
      const note = ms === undefined ? `the probe was given up after ${limitMs} ms` : undefined;
      const reading = judge({ ...gauge, bound: present }, value, { floor: FLOOR, holdFrom: HOLD_FROM, note });
      const measured = probeBaselineTimes === null || baseline.ms() !== undefined;
      if (measured || reading.signal.state === 'pressed') return [reading];
      const measuring = 'measuring what it takes while the backfill rests';
      return [{ signal: { ...reading.signal, note: measuring }, effect: { slow: BACKGROUND_FLOOR } }];
    },
  };

  /** Ms that it took by itself; undefined where it was not done within the limit. */
  async function probe(db: Database): Promise<number | undefined | 'no rows'> {
    try {
      if (probeSql !== null) return await time(db, limitMs, { sql: probeSql, params: [] });
      const key = await sample.next(db);
      return key === undefined ? 'no rows' : await time(db, limitMs, lookUp(source, key));
    } catch (error) {
      if (classify(error) === 'lock_timeout') return undefined; // Also the code of a statement that took too long.
      throw error;
    }
  }
}

function time(
  db: Database,
  limitMs: number,
  { sql, params }: { readonly sql: string; readonly params: readonly unknown[] },
): Promise<number> {
  return readOnly(db, limitMs).tx(async (tx) => {
    const begun = performance.now();
    await tx.query(sql, params);
    return performance.now() - begun;
  });
}
