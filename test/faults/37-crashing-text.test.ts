import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { MAX_ATTEMPTS } from '../../src/claim/lease.js';
import { eventually } from '../support/eventually.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { sideBySide } from './support/tries.js';

const CRASH_MARKER = 'KILLS-WORKERS';
const PRELOAD = fileURLToPath(new URL('./support/crash-at-marker.mjs', import.meta.url));

/** Drains at a time in each worker: with several, texts that are in flight beside the guilty one are lost with it. */
const SLOTS = [1, 3] as const;

test('fault 37: a text that crashes the worker process itself [bounded attempts, then a failure row]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await sideBySide(context, SLOTS, (slots) =>
    withFaultyProvider(
      {
        rows: 60,
        env: { FRESHVEC_SLOTS: String(slots), NODE_OPTIONS: `--import=${PRELOAD}`, CRASH_MARKER },
        app: { hides: false },
      },
      async (system) => {
        const { workers, app, db } = system;
        // Row 1 is edited over and over and any may be deleted by the app, so this one is in a corner of its own.
        await db.query(`INSERT INTO doc (id, body) OVERRIDING SYSTEM VALUE VALUES (-1, $1)`, [`row ${CRASH_MARKER}`]);
        app.start();
        const crashes = await workUntilFailed(system);
        // Each attempt is one worker; the bound is what the failure row says.
        expect(crashes).toBe(MAX_ATTEMPTS);
        const failures = await db.query('SELECT key, code, message, attempts FROM freshvec.failure');
        expect(failures).toEqual([
          {
            key: '-1',
            code: 'worker_lost',
            attempts: MAX_ATTEMPTS,
            message: expect.stringContaining('5 workers died'),
          },
        ]);
        expect(JSON.stringify(failures)).not.toContain(CRASH_MARKER);
        // The worker that found it lives on, and nobody else's text is lost.
        expect(workers.all.filter(({ running }) => running)).toHaveLength(1);
        await system.probe();
        await app.stop();
        const settled = async () => (await system.backlog()).leases + (await system.backlog()).changes === 0;
        await eventually(settled, { timeoutMs: 60_000, what: 'the rest to be worked off' });
        expect((await system.backlog()).failures).toBe(1);
        await db.query(`UPDATE doc SET body = 'row that does no harm' WHERE id = -1`);
        await system.assertFresh();
        app.assertUndisturbed();
      },
    ),
  );
});

/** Starts a worker whenever the last one has died, as a supervisor would. Resolves to how many died. */
async function workUntilFailed(system: System<FaultyProvider>): Promise<number> {
  const { workers } = system;
  for (let crashes = 0; crashes <= MAX_ATTEMPTS * 2; crashes++) {
    const worker = await workers.start({ wait: false });
    const outcome = async () => !worker.running || ((await system.backlog()).failures > 0 && 'failed');
    const how = await eventually(outcome, { timeoutMs: 60_000, what: 'the end of a worker, or a failure row' });
    if (how === 'failed') return crashes;
    expect(await worker.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await system.transactionsEnded(worker);
    await system.expireLeases(worker);
    // Its job stays locked for 15 s, during which no drain is woken; an emptied Redis loses nothing (fault 18).
    await emptyRedis(system.env.REDIS_URL ?? '');
  }
  throw new Error('workers go on dying');
}

async function emptyRedis(url: string): Promise<void> {
  const admin = new Redis(url);
  await admin.flushdb();
  admin.disconnect();
}
