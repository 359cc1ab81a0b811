import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type System, TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

/** The worker that slept wakes with an answer in its hands, or in the middle of a transaction, or anywhere. */
const VARIANTS = ['with its texts at the provider', 'between write and settle', 'at random, often'] as const;

const STOP: Record<(typeof VARIANTS)[number], (system: System) => Promise<void>> = {
  async 'with its texts at the provider'(system) {
    const { provider, workers } = system;
    provider.hold();
    const sleeper = await workers.start();
    const holds = async () => provider.waiting > 0 && (await system.leasesOf(sleeper)) > 0;
    await eventually(holds, { what: 'a claim whose texts are with the provider' });
    sleeper.send('SIGSTOP');
    provider.release();
    await system.expireLeases(sleeper);
    const held = await system.leasesOf(sleeper);
    // Its successor takes the keys over and is kept waiting with them when the sleeper wakes, an answer in its hands.
    provider.latencyMs = 500;
    await workers.start();
    const takenOver = async () => (await system.leasesOf(sleeper)) < held;
    await eventually(takenOver, { timeoutMs: 60_000, what: 'somebody else to take over' });
    provider.hold();
    sleeper.send('SIGCONT');
    const goesOn = () => sleeper.log().includes('drained') || provider.waiting > 1;
    await eventually(goesOn, { timeoutMs: 60_000, what: 'the sleeper to go on' });
    await system.transactionsEnded(sleeper);
    provider.latencyMs = 0;
    provider.release();
    await system.probe();
  },

  async 'between write and settle'(system) {
    const { workers } = system;
    const barrier = await system.barrier('BEFORE DELETE ON freshvec.lease');
    await barrier.close();
    const sleeper = await workers.start();
    await barrier.reached();
    sleeper.send('SIGSTOP');
    await barrier.open();
    await workers.start();
    // The server ends the transaction, else the app would wait for its rows as long as the worker sleeps.
    await system.transactionsEnded(sleeper);
    await system.expireLeases(sleeper);
    await system.probe();
    sleeper.send('SIGCONT');
    await system.probe();
  },

  async 'at random, often'(system) {
    const { workers, provider } = system;
    provider.latencyMs = 20;
    const all = [await workers.start(), await workers.start()];
    for (let i = 0; i < 8; i++) {
      const sleeper = all[i % 2];
      if (!sleeper) continue;
      await system.probe();
      await sleep(Math.random() * 100);
      sleeper.send('SIGSTOP');
      await system.expireLeases(sleeper);
      await sleep(300);
      sleeper.send('SIGCONT');
    }
    await system.probe();
  },
};

test('fault 04: worker SIGSTOPped past its lease, then continued [F C]', { timeout: TIMEOUT_MS }, async (context) => {
  await sideBySide(context, VARIANTS, (variant) =>
    withSystem({ app: { lockBudgetMs: 10_000 }, env: { FRESHVEC_LOG_LEVEL: 'debug' } }, async (system) => {
      system.app.start();
      await STOP[variant](system);
      await system.app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      system.app.assertUndisturbed();
    }),
  );
});
