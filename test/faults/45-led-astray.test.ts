import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { getSetting } from '../../src/catalog/settings.js';
import { eventually } from '../support/eventually.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { startTrap, type Trap } from './support/trap.js';
import { sideBySide } from './support/tries.js';

const API_KEY = 'sk-not-for-others';
const REDIRECTS = [301, 302, 307, 308] as const;

let home: string;
let certificate: { key: Buffer; cert: Buffer };
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'freshvec-fault45-'));
  const files = { key: path.join(home, 'key.pem'), cert: path.join(home, 'cert.pem') };
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  const subject = ['-subj', '/CN=elsewhere.test', '-addext', 'subjectAltName=DNS:elsewhere.test'];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', files.key, '-out', files.cert]);
  certificate = { key: await readFile(files.key), cert: await readFile(files.cert) };
});
afterAll(() => rm(home, { recursive: true }));

const WAYS: Readonly<Record<string, (system: System<FaultyProvider>, trap: Trap) => Promise<void>>> = {
  async 'a redirect to another host'(system, { port }) {
    const { provider, workers } = system;
    for (const status of REDIRECTS) {
      const location = `http://localhost:${port}/v1/embeddings`;
      provider.standin.set({ faults: [{ kind: 'redirect', location, status }] });
      const worker = await workers.start();
      const reason = await eventually(() => pauseReason(system), { timeoutMs: 40_000, what: 'a pause' });
      expect(reason).toMatch(new RegExp(`HTTP ${status}.*redirects are not followed: set OPENAI_BASE_URL`));
      await worker.end('SIGTERM');
      provider.standin.set({ faults: [] });
      await system.cli(['resume', 'doc']);
    }
  },

  async "another host's certificate"({ db, workers }, { port }) {
    const worker = await workers.start({
      env: { OPENAI_BASE_URL: `https://127.0.0.1:${port}/v1`, NODE_EXTRA_CA_CERTS: path.join(home, 'cert.pem') },
    });
    const reason = async () => {
      const [row] = await db.query<{ reason: string }>(
        'SELECT reason FROM freshvec.account WHERE failures > 0 AND reason IS NOT NULL',
      );
      return row?.reason;
    };
    const told = await eventually(reason, { timeoutMs: 40_000, what: 'a refusal' });
    expect(told).toMatch(/was not asked: its certificate is for another host/);
    await worker.end('SIGTERM');
  },

  async 'a base URL in the database'({ db, workers, space }, { port }) {
    const url = `http://localhost:${port}/v1`;
    const names = ['OPENAI_BASE_URL', 'baseUrl', 'models.openai.baseUrl', 'openai.baseUrl'];
    await db.query(`INSERT INTO freshvec.setting SELECT name, $2 FROM unnest($1::text[]) name`, [names, url]);
    for (const spec of [`openai/${url}/standin@64`, `openai/standin?baseUrl=${url}@64`]) {
      await db.query('UPDATE freshvec.space SET spec = $1', [spec]);
      const worker = await workers.start();
      const refused = () => worker.log().includes('"code":"model_changed"');
      await eventually(refused, { timeoutMs: 40_000, what: 'a refusal of that model' });
      expect(worker.log()).toContain('Vectors of two models must not be mixed');
      await worker.end('SIGTERM');
    }
    await db.query('UPDATE freshvec.space SET spec = $1', [space.spec]);
  },

  async 'a base URL in a job'({ db, env, space, workers, provider }, { port }) {
    const url = `http://localhost:${port}/v1`;
    const connection = new Redis(env.REDIS_URL ?? '', { maxRetriesPerRequest: null });
    const prefix = `freshvec:${await getSetting(db, 'installation')}`;
    const queue = new Queue('freshvec-drain', { connection, prefix });
    const models = { openai: { baseUrl: url } };
    const more = {
      baseUrl: url,
      OPENAI_BASE_URL: url,
      url,
      env: { OPENAI_BASE_URL: url },
      models,
      settings: { models },
    };
    try {
      const jobs = [await queue.add('drain', { spaceId: url, slot: url, ...more })];
      for (let slot = 0; slot < 4; slot++) jobs.push(await queue.add('drain', { spaceId: space.id, slot, ...more }));
      await workers.start();
      // Done jobs are removed.
      const done = async () => (await Promise.all(jobs.map(({ id = '' }) => queue.getJob(id)))).every((job) => !job);
      await eventually(done, { timeoutMs: 40_000, what: 'the jobs to be done' });
    } finally {
      await queue.close();
      connection.disconnect();
    }
    expect(provider.standin.stats().requests).toBeGreaterThan(0);
  },
};

test("fault 45: a redirect, another host's certificate, a base URL in the database or a job [refused, P]", {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await sideBySide(context, Object.keys(WAYS), async (name) => {
    const trap = await startTrap(name.includes('certificate') ? certificate : undefined);
    try {
      await withFaultyProvider(
        { env: { OPENAI_API_KEY: API_KEY, FRESHVEC_LOG_LEVEL: 'debug' }, app: { hides: false } },
        async (system) => {
          system.app.start();
          await WAYS[name]?.(system, trap);
          await system.workers.start();
          await system.probe(60_000);
          await system.app.stop();
          await system.assertFresh();
          expect(trap.requests).toEqual([]);
          expect(system.provider.standin.last?.headers.authorization).toBe(`Bearer ${API_KEY}`);
          expect(system.workers.logs()).not.toContain(API_KEY);
          expect(system.provider.paidAgain()).toBe(0);
          system.app.assertUndisturbed();
        },
      );
    } finally {
      await trap.close();
    }
  });
});

async function pauseReason({ db }: System<FaultyProvider>): Promise<string | undefined> {
  const [row] = await db.query<{ reason: string }>('SELECT reason FROM freshvec.pause');
  return row?.reason;
}
