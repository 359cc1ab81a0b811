import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { sideBySide } from './support/tries.js';

type Paused = { kind: string; reason: string; until: string | null };

interface Stop {
  readonly kind: 'provider' | 'spend';
  readonly reason: RegExp;
  /** Begins it while workers run, or before they do. */
  begin(system: System<FaultyProvider>, home: string): Promise<void>;
  mend(system: System<FaultyProvider>, home: string): Promise<void>;
}

/** A million tokens for a dollar: a token for a millionth of one. */
const PRICES = { 'openai/standin': 1 };
/** The first load alone takes some 700 tokens. */
const CAP = { tokens: 300, usd: 0.0003 };

const STOPS: Readonly<Record<string, Stop>> = {
  'key revoked': {
    kind: 'provider',
    reason: /HTTP 401 .*check OPENAI_API_KEY/,
    begin: (system) => refuse(system, 'unauthorised'),
    mend: async ({ provider }) => provider.standin.set({ faults: [] }),
  },
  'quota exhausted': {
    kind: 'provider',
    reason: /HTTP 429 insufficient_quota; what this key may spend is used up/,
    begin: (system) => refuse(system, 'insufficient_quota'),
    mend: async ({ provider }) => provider.standin.set({ faults: [] }),
  },
  'spend cap reached in mid-batch': {
    kind: 'spend',
    reason: /the spend cap of \$0\.0003 a day is reached: raise spend\.perDay/,
    async begin({ app, workers, provider }, home) {
      await writeFile(path.join(home, 'freshvec.config.json'), JSON.stringify({ prices: PRICES }));
      // Several requests for each claim. One slot: nobody else comes by to find that the money is spent.
      const env = { FRESHVEC_SPEND_PER_DAY: String(CAP.usd), FRESHVEC_MAX_INPUTS: '3', FRESHVEC_SLOTS: '1' };
      await workers.start({ cwd: home, env });
      // Edits would come first, one by one; the money is to end in the middle of a batch of the first load.
      const half = () => provider.standin.stats().charged.tokens > CAP.tokens / 2;
      await eventually(half, { timeoutMs: 40_000, what: 'half of the money to be spent' });
      app.start();
    },
    async mend({ workers, provider }, home) {
      // By the provider's own count. The money is taken by our estimate before a request is sent, and what the provider
      // counts otherwise is known with its answer only: hence the tenth.
      expect(provider.standin.stats().charged.tokens).toBeLessThanOrEqual(CAP.tokens * 1.1);
      expect(provider.standin.stats().charged.tokens).toBeGreaterThan(CAP.tokens / 2);
      await Promise.all(workers.all.map((worker) => worker.end('SIGTERM')));
      await workers.start({ cwd: home, env: { FRESHVEC_SPEND_PER_DAY: '1' } });
    },
  },
};

test('fault 39: key revoked; quota exhausted; spend cap reached in mid-batch [paused with a reason, $]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  const home = await mkdtemp(path.join(tmpdir(), 'freshvec-fault39-'));
  try {
    await sideBySide(context, Object.keys(STOPS), (name) =>
      withFaultyProvider({ app: { hides: false } }, async (system) => {
        const stop = STOPS[name];
        if (!stop) throw new Error(name);
        const { app, provider, db } = system;
        await stop.begin(system, home);
        const paused = await eventually(() => pausedOf(system), { timeoutMs: 60_000, what: 'a pause in the status' });
        expect(paused).toMatchObject({ kind: stop.kind, reason: expect.stringMatching(stop.reason) });
        const told = await system.cli(['status']);
        expect(told.stdout).toMatch(/doc \(paused\)/);
        expect(told.stdout).toMatch(stop.reason);

        // Nobody asks any more, changes go on being noticed, and no text is to blame.
        const { requests } = provider.standin.stats();
        const statements = app.statements.length;
        await eventually(() => app.statements.length > statements + 40, { timeoutMs: 40_000, what: 'an app going on' });
        if (await pausedOf(system)) expect(provider.standin.stats().requests).toBeLessThanOrEqual(requests + 2);
        const { changes, leases, failures } = await system.backlog();
        expect(changes + leases).toBeGreaterThan(0);
        expect(failures).toBe(0);
        const [blame] = await db.query('SELECT COALESCE(max(attempts), 0)::int AS attempts FROM freshvec.lease');
        expect(blame).toEqual({ attempts: 0 });

        await stop.mend(system, home);
        expect((await system.cli(['resume', 'doc', '--json'])).json()).toMatchObject({ source: 'doc', paused: false });
        await system.probe(60_000);
        expect(await pausedOf(system)).toBe(undefined);
        await app.stop();
        await system.assertFresh();
        await system.assertOneWriter();
        expect(provider.paidAgain()).toBe(0);
        app.assertUndisturbed();
      }),
    );
  } finally {
    await rm(home, { recursive: true });
  }
});

/** Workers that have begun to work well, then a provider that refuses. */
async function refuse(system: System<FaultyProvider>, kind: 'unauthorised' | 'insufficient_quota'): Promise<void> {
  const { app, workers, provider } = system;
  app.start();
  for (let i = 0; i < 2; i++) await workers.start();
  await system.probe();
  provider.standin.set({ faults: [{ kind }] });
}

async function pausedOf(system: System<FaultyProvider>): Promise<Paused | undefined> {
  const status = await system.cli(['status', '--json']);
  return status.json<{ sources: { paused?: Paused }[] }>().sources[0]?.paused;
}
