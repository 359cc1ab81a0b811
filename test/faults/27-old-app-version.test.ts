import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { migrateUntilReady, reembed, withReaders } from './reader.js';
import { TIMEOUT_MS, withSystem } from './support/system.js';
import { sideBySide } from './support/tries.js';

/** Whether the columns exchange their names with the switch. */
const VARIANTS = ['the pointer alone', 'names too'] as const;

test('fault 27: a process of the old app version searches after the switch [X Q]', {
  timeout: 2 * TIMEOUT_MS,
}, async (context) => {
  await sideBySide(context, VARIANTS, (variant) =>
    withSystem({ app: { searches: false, lockBudgetMs: 10_000 } }, (system) =>
      withReaders(async (start) => {
        const { app } = system;
        app.start();
        const { from, to, spaces } = await migrateUntilReady(system, ['--index', 'none']);
        // It knows the pointer from before the switch; one searches without a pause, the other now and then.
        const readers = [0, 300].map((everyMs) => start({ ...system.env, SEARCH_EVERY_MS: String(everyMs) }));
        const sees = (epoch: number) =>
          eventually(() => readers.every((reader) => reader.searched().some((searched) => searched.epoch === epoch)), {
            timeoutMs: 30_000,
            what: `searches at epoch ${epoch}`,
          });
        await sees(1);
        const cutover = ['cutover', 'doc', ...(variant === 'names too' ? ['--rename', '--yes'] : [])];
        for (let epoch = 1; epoch < 5; epoch += 2) {
          await reembed(system, ...cutover);
          await sees(epoch + 1);
          await reembed(system, 'rollback', 'doc');
          await sees(epoch + 2);
        }
        for (const reader of readers) expect(await reader.end('SIGTERM')).toBe(0);
        for (const { epoch = 0, space, models, error } of readers.flatMap((reader) => reader.searched())) {
          expect(error).toBeUndefined();
          const old = epoch % 2 === 1;
          expect(space).toBe(old ? spaces.from : spaces.to);
          expect(models).toEqual(Array(5).fill(old ? from : to));
        }
        await app.stop();
        app.assertUndisturbed();
        await system.assertFresh();
      }),
    ),
  );
});
