import { notPausedSql } from '../../../catalog/pause.js';
import { MAINTAINED_STATES } from '../../../catalog/space.js';
import { LANES } from '../../../claim/lease.js';
import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { BACKGROUND_FLOOR, HOLD_FROM, judge, READ_MS, type Reader } from '../reading.js';

/**
 * How long the oldest edit that no worker has taken yet has waited, in whichever space: the workers do not keep up, and what the
 * backfill takes of them and of the database is missing there. Spaces that are paused wait for a person.
 */
export function editsWaiting(
  { editWaitSeconds }: Pick<ThrottleSettings, 'editWaitSeconds'>,
  sourceId: number,
): Reader | undefined {
  if (editWaitSeconds === null) return undefined;
  const gauge = { name: 'edits_waiting', unit: 's', bound: editWaitSeconds };
  return {
    gauges: [gauge],
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ seconds: number | null }>(
        `SELECT max(extract(epoch FROM clock_timestamp() - c.at))::float8 AS seconds
         FROM freshvec.space s CROSS JOIN LATERAL (
           SELECT at FROM freshvec.change WHERE space_id = s.id AND lane = ${LANES.interactive} ORDER BY id LIMIT 1) c
         WHERE s.source_id = $1 AND s.state = ANY($2::text[]) AND ${notPausedSql('s')}`,
        [sourceId, MAINTAINED_STATES],
      );
      const why = 'edits wait for workers: more of them, or a faster database, would let the backfill go on';
      return [judge(gauge, row?.seconds ?? 0, { floor: BACKGROUND_FLOOR, holdFrom: HOLD_FROM, why })];
    },
  };
}
