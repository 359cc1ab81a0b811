import { expect, test } from 'vitest';
import { killedInWrite } from './killed.js';
import { TIMEOUT_MS } from './support/system.js';

/** Write and settle are one transaction: a kill between them leaves neither, a kill during its COMMIT leaves both. */
const VARIANTS = [
  { store: 'column', at: 'between write and settle' },
  { store: 'table', at: 'between write and settle' },
  { store: 'column', at: 'commit' },
] as const;

test('fault 03: worker SIGKILLed after the write, before it settled [C $]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await killedInWrite(context, VARIANTS, async (system, { at }) => {
    const { workers, app } = system;
    const atCommit = at === 'commit';
    const barrier = atCommit
      ? await system.barrier('AFTER DELETE ON freshvec.lease', { atCommit })
      : await system.barrier('BEFORE DELETE ON freshvec.lease');
    // At a commit, the first transaction must be one that writes: an app that deletes would have others come before.
    if (!atCommit) app.start();
    await barrier.close();
    const victim = await workers.start();
    await barrier.reached();
    if (atCommit) app.start();
    const onceDead = async () => {
      const writes = await system.writesOf(victim);
      if (atCommit) expect(writes).toBeGreaterThan(0);
      else expect(writes).toBe(0);
    };
    return { barrier, victim, onceDead };
  });
});
