import type { ThrottleSettings } from '../config/throttle.js';
import type { Database } from '../db/database.js';
import type { ThrottledWork } from './operation.js';
import { createThrottle, type Throttle, type Tick } from './throttle/create-throttle.js';

export interface Throttles {
  tick(work: ThrottledWork, share: number): Promise<Tick>;
  close(): Promise<void>;
}

/** A throttle for each migration of this process, and for each thing it does: each remembers what it measured before. */
export function createThrottles(
  db: Database,
  settings: ThrottleSettings,
  accountsOf: (spec: string) => Promise<readonly string[]>,
): Throttles {
  const open = new Map<string, Promise<Throttle>>();

  async function start({ source, to }: ThrottledWork): Promise<Throttle> {
    const writes = to?.store === 'table' ? await tableOid(db, to.id) : [];
    return createThrottle(db, settings, { source, writes, accounts: to ? await accountsOf(to.spec) : [] });
  }

  return {
    async tick(work, share) {
      const name = `${work.migrationId} ${work.to ? 'fills' : 'clears'}`;
      let throttle = open.get(name);
      if (!throttle) {
        throttle = start(work);
        throttle.catch(() => open.delete(name)); // The next tick tries again.
        open.set(name, throttle);
      }
      return (await throttle).tick(share);
    },
    async close() {
      const throttles = await Promise.allSettled(open.values());
      await Promise.all(throttles.map((one) => (one.status === 'fulfilled' ? one.value.close() : undefined)));
    },
  };
}

async function tableOid(db: Database, spaceId: number): Promise<number[]> {
  const [row] = await db.query<{ oid: number | null }>(
    `SELECT to_regclass('freshvec.vector_' || $1)::oid::int8 AS oid`,
    [spaceId],
  );
  return row?.oid ? [row.oid] : [];
}
