import { test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type SystemOptions, TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

const VARIANTS: readonly SystemOptions[] = [{ store: 'column' }, { store: 'table' }, { redisUrl: false }];

test('fault 01: worker SIGKILLed after claim [C F]', { timeout: TIMEOUT_MS }, async (context) => {
  await sideBySide(context, VARIANTS, (variant) =>
    withSystem(variant, async (system) => {
      const { provider, workers, app } = system;
      app.start();
      provider.hold();
      const victim = await workers.start();
      const holds = async () => provider.waiting > 0 && (await system.leasesOf(victim)) > 0;
      await eventually(holds, { what: 'a claim whose texts are with the provider' });
      await victim.end('SIGKILL');
      await system.expireLeases(victim);
      provider.release();
      await workers.start();
      await system.probe();
      await app.stop();
      await system.assertFresh();
      await system.assertOneWriter();
      app.assertUndisturbed();
    }),
  );
});
