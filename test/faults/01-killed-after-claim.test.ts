import { test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { withSystem } from './support/system.js';
import { eachTry } from './support/tries.js';

test('fault 01: worker SIGKILLed after claim [C F]', async (context) => {
  await withSystem({}, async (system) => {
    const { provider, workers, app } = system;
    app.start();
    await eachTry(context, ['column'], async () => {
      provider.hold();
      const victim = await workers.start();
      const holds = async () => (await system.leasesOf(victim)) > 0 && provider.waiting > 0;
      await eventually(holds, { what: 'a claim whose texts are with the provider' });
      await victim.end('SIGKILL');
      await system.expireLeases(victim);
      provider.release();
      await workers.start();
    });
    await app.stop();
    await system.assertFresh();
    await system.assertOneWriter();
    app.assertUndisturbed();
  });
});
