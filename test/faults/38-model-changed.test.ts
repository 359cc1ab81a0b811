import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { eventually } from '../support/eventually.js';
import { TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { assertVectorsTrue, keepVectors } from './support/written.js';

/** Vectors of another seed are of another model. */
const ANOTHER = 1;

test('fault 38: the provider silently changes the model behind its name [writes stop, X]', {
  timeout: TIMEOUT_MS,
}, async () => {
  await withFaultyProvider({ rows: 40, app: { hides: false } }, async (system) => {
    const { provider, workers, app, db, space } = system;
    await keepVectors(db);
    app.start();
    const first = await workers.start();
    await system.probe();
    const known = async () => (await db.query('SELECT FROM freshvec.probe WHERE reason IS NULL')).length === 1;
    await eventually(known, { timeoutMs: 40_000, what: 'what the model gave first, on record' });
    // Nobody looks while a change goes unnoticed: the worker that starts next must.
    expect(await first.end('SIGTERM')).toMatchObject({ code: 0 });
    const wroteBefore = await writes();

    provider.standin.set({ modelSeed: ANOTHER });
    await workers.start();
    const second = await workers.start();
    const paused = async () => {
      const status = await system.cli(['status', '--json']);
      return status.json<{ sources: { paused?: { reason: string } }[] }>().sources[0]?.paused;
    };
    const { reason } = await eventually(paused, { timeoutMs: 60_000, what: 'a pause in the status' });
    expect(reason).toContain(`${space.spec} is not the model any more that made the stored vectors`);
    expect(reason).toContain(`freshvec probe accept ${space.spec}`);
    await sleep(2_000);
    expect(await writes()).toBe(wroteBefore);
    expect((await system.backlog()).changes).toBeGreaterThan(0);
    // A worker that comes later finds it on record.
    await workers.start();
    expect(await writes()).toBe(wroteBefore);
    expect(second.running).toBe(true);
    // What the model says of a query now is not compared with what it said of the rows; a vector of the app's is its own.
    const client = createClient({ databaseUrl: system.url, env: system.env, configFile: false, onError: () => {} });
    try {
      const { requests } = provider.standin.stats();
      const refused = { code: 'embed_model_changed', message: expect.stringContaining(reason) };
      await expect(client.search('doc', { text: 'text 1', k: 3 })).rejects.toMatchObject(refused);
      expect(provider.standin.stats().requests).toBe(requests);
      const vector = provider.vectorOf('text 1');
      expect((await client.search('doc', { vector, k: 3 })).results).toHaveLength(3);

      // The provider takes it back, and a person says so.
      provider.standin.set({ modelSeed: 0 });
      await system.cli(['probe', 'accept', space.spec]);
      await system.cli(['resume', 'doc']);
      const found = async () => (await client.search('doc', { text: 'text 1', k: 3 })).results.length === 3;
      await eventually(found, { what: 'a search by text' });
    } finally {
      await client.close();
    }

    await workers.start();
    await system.probe(60_000);
    await app.stop();
    await system.assertFresh();
    await assertVectorsTrue(db, provider.standin.texts.keys(), provider.vectorOf);
    app.assertUndisturbed();

    async function writes(): Promise<number> {
      const [row] = await db.query<{ n: number }>('SELECT count(*)::int AS n FROM oracle.vector');
      return row?.n ?? 0;
    }
  });
});
