import { test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { withSystem } from './support/system.js';
import { eachTry } from './support/tries.js';

test('fault 01: worker SIGKILLed after claim [C F]', async (context) => {
  await withSystem({}, async (system) => {
    const { provider, workers, app } = system;
    const T = Date.now();
    const L = (s: string) => console.log(s, Date.now() - T);
    app.start();
    await eachTry(context, ['column'], async () => {
      provider.hold();
      const victim = await workers.start();
      const holds = async () => (await system.leasesOf(victim)) > 0 && provider.waiting > 0;
      L('started');
      await eventually(holds, { what: 'a claim whose texts are with the provider' });
      L('holds');
      await victim.end('SIGKILL');
      await system.expireLeases(victim);
      provider.release();
      await workers.start();
      L('second');
      const n = await system.countFresh();
      await eventually(async () => (await system.countFresh()) > n + 5, { timeoutMs: 40000 });
      L('fresh goes on');
    });
    await app.stop();
    L('stopped');
    await system.assertFresh();
    L('fresh');
    console.log(
      await system.db.query('select what,app,count(*),min(at),max(at) from oracle.log group by 1,2 order by 4'),
    );
    await system.assertOneWriter();
    app.assertUndisturbed();
  });
});
