import { expect, test } from 'vitest';
import { TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

/** Write and settle are one transaction: a kill between them leaves neither, a kill during its COMMIT leaves both. */
const VARIANTS = [
  { store: 'column', at: 'between write and settle' },
  { store: 'table', at: 'between write and settle' },
  { store: 'column', at: 'commit' },
] as const;

test('fault 03: worker SIGKILLed after the write, before it settled [C $]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await sideBySide(context, VARIANTS, ({ store, at }) =>
    // The app may wait for the barrier, which stands in a transaction of the worker: that is the test's doing.
    withSystem({ store, app: { hides: false, lockBudgetMs: 10_000 } }, async (system) => {
      const { provider, workers, app } = system;
      const barrier =
        at === 'commit'
          ? await system.barrier('AFTER DELETE ON freshvec.lease', { atCommit: true })
          : await system.barrier('BEFORE DELETE ON freshvec.lease');
      // At a commit, the first transaction must be one that writes: an app that deletes would have others come before.
      if (at !== 'commit') app.start();
      await barrier.close();
      const victim = await workers.start();
      await barrier.reached();
      if (at === 'commit') app.start();
      await victim.end('SIGKILL');
      await barrier.open();
      await system.transactionsEnded(victim);
      if (at === 'commit') expect(await system.writesOf(victim)).toBeGreaterThan(0);
      else expect(await system.writesOf(victim)).toBe(0);
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
