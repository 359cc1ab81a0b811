import { expect, test } from 'vitest';
import { TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

const VARIANTS = [
  { store: 'column', at: 'the answer' },
  { store: 'column', at: 'the first row of the write' },
  { store: 'table', at: 'the first row of the write' },
] as const;

test('fault 02: worker SIGKILLed after the provider answered, before the write [C $]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await sideBySide(context, VARIANTS, ({ store, at }) =>
    // The app may wait for the barrier, which stands in a transaction of the worker: that is the test's doing.
    withSystem({ store, app: { hides: false, lockBudgetMs: 10_000 } }, async (system) => {
      const { provider, workers, app, space } = system;
      const write = store === 'column' ? 'UPDATE OF embedding ON doc' : `INSERT ON freshvec.vector_${space.id}`;
      const barrier = await system.barrier(`BEFORE ${write}`);
      app.start();
      if (at !== 'the answer') await barrier.close();
      const answered = new Promise<void>((resolve) => {
        provider.onAnswered = () => resolve();
      });
      const victim = await workers.start();
      await (at === 'the answer' ? answered : barrier.reached());
      await victim.end('SIGKILL');
      await barrier.open();
      await system.transactionsEnded(victim);
      const inFlight = await system.leasesOf(victim);
      await system.expireLeases(victim);
      await workers.start();
      await system.probe();
      await app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      expect(provider.paidAgain()).toBeLessThanOrEqual(inFlight);
      app.assertUndisturbed();
    }),
  );
});
