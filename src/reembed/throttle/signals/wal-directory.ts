import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { FLOOR } from '../aimd.js';
import { judge, READ_MS, type Reader, STOP_TIMES } from '../reading.js';

/** WAL files on the server's disk: they pile up where archiving fails or a slot keeps them. Needs pg_monitor. */
export function walDirectory({ walDirectoryBytes }: Pick<ThrottleSettings, 'walDirectoryBytes'>): Reader | undefined {
  if (walDirectoryBytes === null) return undefined;
  const gauge = { name: 'wal_directory', unit: 'bytes', bound: walDirectoryBytes };
  return {
    gauges: [gauge],
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<{ bytes: number }>(
        'SELECT coalesce(sum(size), 0)::float8 AS bytes FROM pg_ls_waldir()',
      );
      if (!row) throw new Error('pg_ls_waldir() gave no answer');
      return [judge(gauge, row.bytes, { floor: FLOOR, stopOver: walDirectoryBytes * STOP_TIMES })];
    },
  };
}
