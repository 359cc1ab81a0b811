import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { judge, READ_MS, type Reader } from '../reading.js';
import { RELATIONS } from './relations.js';

/** The backfill's own updates call for vacuums: were it to nearly stop for each, a large table would take for ever. */
const BESIDE_VACUUM = { atMost: 0.5 };

/**
 * A vacuum, automatic or not, of the backfill's tables: it reads and writes the same pages, and is what the table waits
 * for. Which table it is at is hidden from most roles, but not which locks it holds.
 */
export function vacuum(settings: Pick<ThrottleSettings, 'vacuum'>, relations: readonly number[]): Reader | undefined {
  if (!settings.vacuum) return undefined;
  const gauge = { name: 'vacuum', unit: 'running', bound: 0 };
  return {
    gauges: [gauge],
    async read(db) {
      const rows = await readOnly(db, READ_MS).query<{ pid: number; name: string }>(
        `${RELATIONS}, own AS (
           SELECT oid FROM rel UNION SELECT c.reltoastrelid FROM pg_class c JOIN rel ON rel.oid = c.oid WHERE c.reltoastrelid <> 0)
         SELECT DISTINCT ON (p.pid) p.pid, c.oid::regclass::text AS name
         FROM pg_stat_progress_vacuum p
         JOIN pg_locks l ON l.pid = p.pid AND l.locktype = 'relation' AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
         JOIN pg_class c ON c.oid = l.relation
         WHERE p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.database = p.datid AND l.relation IN (SELECT oid FROM own)`,
        [relations],
      );
      const note = rows.map(({ pid, name }) => `process ${pid} vacuums ${name}`).join(', ') || undefined;
      return [judge(gauge, rows.length, { floor: BESIDE_VACUUM, note })];
    },
  };
}
