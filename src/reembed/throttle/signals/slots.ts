import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { judge, READ_MS, type Reader, STOP_TIMES } from '../reading.js';

/**
 * WAL that replication slots keep on the primary's disk, because whoever they are for has not read it. An abandoned slot
 * fills the disk, and one over max_slot_wal_keep_size costs its replica. The view is open to every role.
 */
export function slots({ slotBytes }: Pick<ThrottleSettings, 'slotBytes'>): Reader | undefined {
  if (slotBytes === null) return undefined;
  const gauge = { name: 'slot_wal', unit: 'bytes', bound: slotBytes };
  return {
    gauges: [gauge],
    async read(db) {
      const [worst] = await readOnly(db, READ_MS).query<SlotRow>(
        `SELECT slot_name::text AS name, active, wal_status = 'unreserved' AS losing,
           greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::float8 AS bytes
         FROM pg_replication_slots WHERE restart_lsn IS NOT NULL AND wal_status <> 'lost'
         ORDER BY wal_status = 'unreserved' DESC, bytes DESC LIMIT 1`,
      );
      if (!worst) return [judge(gauge, 0, { floor: FLOOR, note: 'there is no replication slot' })];
      const { name, active, losing, bytes } = worst;
      const reader = active ? '' : '; nobody reads it: start its reader, or drop it with pg_drop_replication_slot';
      const end = losing ? ', and is about to lose it (max_slot_wal_keep_size)' : '';
      return [
        judge(gauge, bytes, {
          floor: FLOOR,
          stopOver: losing || slotBytes * STOP_TIMES,
          note: `the slot "${name}" keeps it${end}${reader}`,
        }),
      ];
    },
  };
}

type SlotRow = { name: string; active: boolean; losing: boolean; bytes: number };
