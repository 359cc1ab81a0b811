import { test } from 'vitest';
import { killedInWrite } from './killed.js';
import { TIMEOUT_MS } from './support/system.js';

const VARIANTS = [
  { store: 'column', at: 'the answer' },
  { store: 'column', at: 'the first row of the write' },
  { store: 'table', at: 'the first row of the write' },
] as const;

test('fault 02: worker SIGKILLed after the provider answered, before the write [C $]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await killedInWrite(context, VARIANTS, async (system, { store, at }) => {
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
    return { barrier, victim };
  });
});
