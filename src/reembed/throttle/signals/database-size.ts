import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { judge, READ_MS, type Reader, type Reading } from '../reading.js';

/** The server looks at every file for it: not at every tick. */
const KEEP_MS = 15_000;
const SLOW_FROM = 0.95;

/** The database against the size that it may grow to: slower over 95 % of it, at rest over all of it. */
export function databaseSize({ maxDatabaseBytes }: Pick<ThrottleSettings, 'maxDatabaseBytes'>): Reader | undefined {
  if (maxDatabaseBytes === null) return undefined;
  const gauge = { name: 'database_size', unit: 'bytes', bound: maxDatabaseBytes * SLOW_FROM };
  let kept: { readonly until: number; readonly reading: Reading } | undefined;
  return {
    gauges: [gauge],
    async read(db) {
      if (kept && performance.now() < kept.until) return [kept.reading];
      const [row] = await readOnly(db, READ_MS).query<{ bytes: number }>(
        'SELECT pg_database_size(current_database())::float8 AS bytes',
      );
      if (!row) throw new Error('pg_database_size() gave no answer');
      const note = `throttle.maxDatabaseBytes is ${maxDatabaseBytes}, and over it the backfill rests`;
      const reading = judge(gauge, row.bytes, { floor: FLOOR, stopOver: maxDatabaseBytes, note });
      kept = { until: performance.now() + KEEP_MS, reading };
      return [reading];
    },
  };
}
