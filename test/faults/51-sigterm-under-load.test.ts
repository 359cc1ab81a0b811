import pg from 'pg';
import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

const GRACE_MS = 8_000;
/** For a machine that is busy with other tests. */
const LEEWAY_MS = 5_000;

const VARIANTS = ['an answering provider', 'a silent provider', 'a row that the app holds'] as const;

const LOAD: Record<(typeof VARIANTS)[number], (system: System) => Promise<() => Promise<void>>> = {
  async 'an answering provider'({ provider }) {
    provider.latencyMs = 100;
    return async () => {};
  },
  async 'a silent provider'({ provider }) {
    provider.hold();
    return async () => provider.release();
  },
  async 'a row that the app holds'({ url, provider }) {
    provider.latencyMs = 20;
    const holder = new pg.Client({ connectionString: url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM doc WHERE id IN (2, 3, 4) FOR UPDATE');
    return () => holder.end();
  },
};

test('fault 51: worker gets SIGTERM under load [C $]', { timeout: TIMEOUT_MS }, async (context) => {
  await sideBySide(context, VARIANTS, (variant) =>
    withSystem({ rows: 400, app: { hides: false, lockBudgetMs: 0 } }, async (system) => {
      const { provider, workers, app, db } = system;
      const end = await LOAD[variant](system);
      app.start();
      const worker = await workers.start({ env: { FRESHVEC_GRACE_MS: String(GRACE_MS) } });
      const busy = async () =>
        (await system.leasesOf(worker)) > 0 &&
        (variant === 'a silent provider' ? provider.waiting > 0 : (await system.writesOf(worker)) > 0);
      await eventually(busy, { timeoutMs: 60_000, what: 'a worker in the midst of it' });

      const [now] = await db.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
      const began = performance.now();
      expect(await worker.end('SIGTERM')).toEqual({ code: 0, signal: null });
      expect(performance.now() - began).toBeLessThan(GRACE_MS + LEEWAY_MS);
      expect(await system.leasesOf(worker)).toBe(0);

      // What it gave back may be paid again, and nothing else.
      const [givenBack] = await db.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM oracle.log e WHERE e.what = 'end' AND e.app = $1 AND e.at >= $2::timestamptz
         AND NOT EXISTS (SELECT FROM oracle.log w WHERE w.what = 'write' AND w.tx = e.tx AND w.key = e.key)`,
        [worker.name, now?.at],
      );
      await end();
      await workers.start();
      await system.probe();
      await app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      expect(provider.paidAgain()).toBeLessThanOrEqual(givenBack?.n ?? 0);
      app.assertUndisturbed();
    }),
  );
});
