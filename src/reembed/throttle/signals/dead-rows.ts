import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { BACKGROUND_FLOOR, judge, READ_MS, type Reader } from '../reading.js';
import { RELATIONS } from './relations.js';

/** Dead rows below which a share says nothing: autovacuum leaves small tables alone. */
const FEW = 1_000;

/** Dead rows as a part of all rows, by the server's statistics, which every role may see. */
export function deadRows(
  { deadRowShare }: Pick<ThrottleSettings, 'deadRowShare'>,
  relations: readonly number[],
): Reader | undefined {
  if (deadRowShare === null) return undefined;
  const gauge = { name: 'dead_rows', unit: 'share', bound: deadRowShare };
  return {
    gauges: [gauge],
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ name: string; dead: number; live: number }>(
        // Live rows are not known after a crash or a reset, until autovacuum counts them again.
        `${RELATIONS}, size AS (
           SELECT s.relid::regclass::text AS name, s.n_dead_tup AS dead, greatest(s.n_live_tup, c.reltuples)::float8 AS live
           FROM pg_stat_all_tables s JOIN rel ON rel.oid = s.relid JOIN pg_class c ON c.oid = s.relid
           WHERE s.n_dead_tup >= ${FEW})
         SELECT name, dead, live FROM size ORDER BY dead / (dead + live) DESC LIMIT 1`,
        [relations],
      );
      if (!row) return [judge(gauge, 0, { floor: BACKGROUND_FLOOR })];
      const share = row.dead / (row.dead + row.live);
      const why = `${row.name} has ${row.dead} dead rows: autovacuum does not keep up; VACUUM ${row.name}`;
      return [judge(gauge, share, { floor: BACKGROUND_FLOOR, why })];
    },
  };
}
