import { expect, type TestContext } from 'vitest';
import type { StoreKind } from '../../src/index.js';
import type { Barrier } from './support/barrier.js';
import { type System, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';
import type { WorkerProcess } from './support/workers.js';

/** Where one try kills the worker. */
export interface Kill {
  readonly barrier: Barrier;
  readonly victim: WorkerProcess;
  /** Called once nothing of the victim runs any more, before anybody takes over. */
  readonly onceDead?: () => Promise<void>;
}

/**
 * For each variant: `reach` brings a worker to the point where it is killed; another then finishes the work. What was in
 * flight at the kill is all that may be paid for twice.
 */
export async function killedInWrite<V extends { readonly store: StoreKind; readonly at: string }>(
  context: TestContext,
  variants: readonly V[],
  reach: (system: System, variant: V) => Promise<Kill>,
): Promise<void> {
  await sideBySide(context, variants, (variant) =>
    // The app may wait for the barrier, which stands in a transaction of the worker: that is the test's doing.
    withSystem({ store: variant.store, app: { hides: false, lockBudgetMs: 10_000 } }, async (system) => {
      const { provider, workers, app } = system;
      const { barrier, victim, onceDead } = await reach(system, variant);
      await victim.end('SIGKILL');
      await barrier.open();
      await system.transactionsEnded(victim);
      await onceDead?.();
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
}
