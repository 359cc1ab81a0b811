import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

const PRELOAD = fileURLToPath(new URL('./support/shifted-clock.mjs', import.meta.url));
const HOUR_MS = 3_600_000;

/**
 * Clocks of the fleet, in the order in which it starts. Simulated where a process asks for the time (`Date`): hosts
 * cannot have clocks of their own on one machine, and the database's stays true.
 */
const CLOCKS = [
  ['ahead', 'behind', 'true'],
  ['behind', 'ahead'],
] as const;

type Clock = (typeof CLOCKS)[number][number];

const SHIFT_MS: Readonly<Record<Clock, number>> = { ahead: HOUR_MS, behind: -HOUR_MS, true: 0 };

/** How a process of a host with such a clock is started. */
function at(clock: Clock): Record<string, string> {
  return { NODE_OPTIONS: `--import=${PRELOAD}`, CLOCK_SHIFT_MS: String(SHIFT_MS[clock]) };
}

test('fault 40: clocks of worker hosts one hour off [F C]', { timeout: TIMEOUT_MS }, async (context) => {
  await sideBySide(context, CLOCKS, (clocks) =>
    withSystem({ rows: 200, env: { FRESHVEC_SLOTS: '2' } }, async (system) => {
      const { provider, workers, app } = system;
      provider.latencyMs = 30;
      app.start();
      for (const clock of clocks) {
        const worker = await workers.start({ env: at(clock) });
        // Their log lines carry their time, so we see that the clock is really off.
        const [line = ''] = worker.log().split('\n');
        const { time } = JSON.parse(line) as { time: number };
        expect(Math.abs(time - Date.now() - SHIFT_MS[clock])).toBeLessThan(HOUR_MS / 2);
      }
      for (const worker of workers.all) {
        const writes = async () => (await system.writesOf(worker)) > 0;
        await eventually(writes, { timeoutMs: 60_000, what: `a write of ${worker.name}` });
      }
      await system.probe();
      // A lease lasts 120 s by the database's clock: nobody took one from a worker that lives.
      expect(await takenOver(system)).toEqual([]);

      // One dies with keys in its hands, and the others wait for its leases as long as the database says.
      const [victim] = workers.all;
      if (!victim) throw new Error('no worker');
      provider.hold();
      const holds = async () => provider.waiting > 0 && (await system.leasesOf(victim)) > 0;
      await eventually(holds, { timeoutMs: 60_000, what: 'a worker with keys in its hands' });
      await victim.end('SIGKILL');
      await system.transactionsEnded(victim);
      const left = await system.leasesOf(victim);
      provider.release();
      await system.probe(60_000);
      expect(await system.leasesOf(victim)).toBe(left);
      await system.expireLeases(victim);
      const none = async () => (await system.leasesOf(victim)) === 0;
      await eventually(none, { timeoutMs: 60_000, what: 'somebody to take over' });

      await app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      app.assertUndisturbed();
    }),
  );
});

/** Leases that ended in the hands of a process other than the one that held them. */
async function takenOver({ db, workers }: System): Promise<unknown[]> {
  const pids = new Map(workers.all.map(({ name, pid }) => [name, pid]));
  const ends = await db.query<{ app: string; key: string; worker: string }>(
    `SELECT app, key, worker FROM oracle.log WHERE what = 'end'`,
  );
  return ends.filter(({ app, worker }) => !worker.endsWith(`:${pids.get(app) ?? 'nobody'}`));
}
