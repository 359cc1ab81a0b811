import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import type { FaultRule } from '../support/standin/faults.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { sideBySide } from './support/tries.js';

const BATCH_KEYS = 20;
const REQUEST_TIMEOUT_MS = 2_000;

interface Outage {
  readonly fault?: FaultRule;
  /** Ms from a request to its answer: over the time-out. */
  readonly latencyMs?: number;
}

/** Refused, so nothing is charged: no text may be paid for twice. */
const REFUSING: readonly Outage[] = [
  { fault: { kind: 'rate_limited' } },
  { fault: { kind: 'rate_limited', retryAfterMs: 1_200 } },
  { fault: { kind: 'server_error' } },
  { fault: { kind: 'overloaded' } },
  { fault: { kind: 'overloaded', retryAfterMs: 700 } },
  { fault: { kind: 'html' } },
];

/** Charged, but the answer does not come, or not in time. */
const CHARGING: readonly Outage[] = [
  { fault: { kind: 'reset' } },
  { latencyMs: REQUEST_TIMEOUT_MS * 1.5 },
  { fault: { kind: 'hang' } },
  { fault: { kind: 'drip', chunks: 40, everyMs: 200 } },
];

/** Slow, and in time: no outage at all. */
const SLOW: FaultRule = { kind: 'drip', chunks: 5, everyMs: 40 };

const VARIANTS = [
  { outages: REFUSING, pays: false },
  { outages: CHARGING, pays: true },
] as const;

test('fault 33: 429 with and without Retry-After, 500, 503, time-out, hang, connection reset, slow drip [C $ Q]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  const env = {
    FRESHVEC_BATCH_KEYS: String(BATCH_KEYS),
    FRESHVEC_REQUEST_TIMEOUT_MS: String(REQUEST_TIMEOUT_MS),
  };
  await sideBySide(context, VARIANTS, ({ outages, pays }) =>
    withFaultyProvider({ rows: 100, env, app: { hides: false } }, async (system) => {
      const { provider, workers, app } = system;
      app.start();
      await workers.start();
      await workers.start();
      let unanswered = 0;
      for (const outage of outages) unanswered += await suffer(system, outage);
      provider.standin.set({ faults: [SLOW] });
      await system.probe();
      provider.standin.set({ faults: [] });
      await app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      // Whatever was charged without an answer must be paid for once more: nobody has its vectors.
      if (!pays) expect(unanswered).toBe(0);
      expect(provider.paidAgain()).toBeLessThanOrEqual(unanswered * BATCH_KEYS);
      app.assertUndisturbed();
    }),
  );
  context.task.meta.tries = REFUSING.length + CHARGING.length;
});

/** Injects an outage and ends it. Resolves to the requests that were charged for meanwhile. */
async function suffer(system: System<FaultyProvider>, { fault, latencyMs = 0 }: Outage): Promise<number> {
  const { app, db, provider } = system;
  const { standin } = provider;
  const before = standin.stats();
  const statements = app.statements.length;
  standin.set({ faults: fault ? [fault] : [], latencyMs });
  const hit = () => {
    const { faults, charged } = standin.stats();
    const hits = fault
      ? (faults[fault.kind] ?? 0) - (before.faults[fault.kind] ?? 0)
      : charged.requests - before.charged.requests;
    return hits >= 2 && app.statements.length >= statements + 20;
  };
  await eventually(hit, { timeoutMs: 40_000, what: `two requests that meet ${JSON.stringify(fault ?? latencyMs)}` });
  // Nobody is to blame, and nobody need come.
  const [blame] = await db.query(
    `SELECT (SELECT count(*)::int FROM freshvec.failure) AS failures, (SELECT count(*)::int FROM freshvec.pause) AS pauses,
       (SELECT COALESCE(max(attempts), 0)::int FROM freshvec.lease) AS attempts`,
  );
  expect(blame).toEqual({ failures: 0, pauses: 0, attempts: 0 });
  standin.set({ faults: [], latencyMs: 0 });
  const charged = standin.stats().charged.requests - before.charged.requests;
  await system.probe();
  return charged;
}
