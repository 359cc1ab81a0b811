import { statfs } from 'node:fs/promises';
import type { ThrottleSettings } from '../../../config/throttle.js';
import { FLOOR } from '../aimd.js';
import { judge, type Reader } from '../reading.js';

type Settings = Pick<ThrottleSettings, 'diskPath' | 'diskUsedShare' | 'maxDatabaseBytes'>;

/**
 * How full the database's disk is. SQL cannot tell: only a path on this machine can, and where the server is elsewhere
 * only a bound for its size (`database-size.ts`). With neither, that nobody looks is at least said.
 */
export function disk({ diskPath, diskUsedShare, maxDatabaseBytes }: Settings): Reader | undefined {
  const gauge = { name: 'disk_used', unit: 'share', bound: diskUsedShare };
  if (diskPath === null) {
    if (maxDatabaseBytes !== null) return undefined;
    const note =
      'nobody looks: SQL cannot tell how full a disk is. Set throttle.maxDatabaseBytes, or throttle.diskPath where the ' +
      'database is on this machine';
    return {
      gauges: [gauge],
      read: async () => [{ signal: { ...gauge, state: 'fine', value: null, note }, effect: 'rise' }],
    };
  }
  return {
    gauges: [gauge],
    async read() {
      const { blocks, bfree, bavail } = await statfs(diskPath);
      const used = blocks - bfree;
      // Like df: what only root may use is not there.
      const share = used + bavail > 0 ? used / (used + bavail) : 1;
      return [
        judge(gauge, share, { floor: FLOOR, stopOver: (1 + diskUsedShare) / 2, note: `of the disk of ${diskPath}` }),
      ];
    },
  };
}
