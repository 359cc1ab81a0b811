import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { eventually } from '../support/eventually.js';
import { openFixture } from '../support/fixture.js';
import { type PgBouncer, startPgBouncer } from '../support/servers.js';
import { vectorIndexes } from './index-builds.js';
import { expectFresh, MODEL, STORES } from './rows.js';
import { type System, type SystemOptions, withSystem } from './support/system.js';

describe('fault 42: PgBouncer in transaction mode between worker and database [works, or refused with a clear word]', () => {
  let bouncer: PgBouncer;
  beforeAll(async () => {
    bouncer = await startPgBouncer(inject('postgresUrl'));
  }, 120_000);
  afterAll(() => bouncer.stop());

  const QUEUES: readonly SystemOptions[] = [{}, { redisUrl: false, store: 'table' }];

  test.for(QUEUES)('with the direct URL: workers, maintenance, index (%j)', async (options) => {
    await withSystem({ index: 'hnsw', ...options }, async (system) => {
      const env = { DATABASE_URL: bouncer.url(system.url), DATABASE_DIRECT_URL: system.url };
      system.app.start();
      const workers = [
        await system.workers.start({ env }),
        await system.workers.start({ env }),
        await system.workers.start({ env, role: 'maintain' }),
      ];
      await eventually(() => hasIndex(system), { timeoutMs: 30_000, intervalMs: 100, what: 'the index' });
      await eventually(() => system.app.statements.length > 60, { timeoutMs: 20_000, what: 'an app at work' });
      await system.app.stop();
      await system.assertFresh();
      for (const worker of workers) expect((await worker.end('SIGTERM')).code).toBe(0);
      system.app.assertUndisturbed();
      expect(system.workers.logs()).not.toMatch(/"code":"pooler"/);
      await letGo(system);
    });
  });

  test('without it: works by polling, and says so', async () => {
    await withSystem({ index: 'hnsw' }, async (system) => {
      const env = { DATABASE_URL: bouncer.url(system.url) };
      system.app.start();
      const embed = await system.workers.start({ env });
      const maintain = await system.workers.start({ env, role: 'maintain' });
      const said = (log: string) => /"code":"pooler".*DATABASE_DIRECT_URL/.test(log);
      await eventually(() => said(embed.log()) && said(maintain.log()), { timeoutMs: 30_000, what: 'a clear word' });
      await eventually(() => system.app.statements.length > 60, { timeoutMs: 20_000, what: 'an app at work' });
      await system.app.stop();
      await system.assertFresh();
      for (const worker of [embed, maintain]) expect((await worker.end('SIGTERM')).code).toBe(0);
      system.app.assertUndisturbed();
      // Capture does not ring for somebody who does not hear.
      expect(await system.db.query(`SELECT pg_sequence_last_value('freshvec.ring_until') AS at`)).toEqual([
        { at: null },
      ]);
      await letGo(system);
    });
  });

  test('without it, and the queue on PostgreSQL: refused with a clear word', async () => {
    await withSystem({ redisUrl: false }, async (system) => {
      const worker = await system.workers.start({ env: { DATABASE_URL: bouncer.url(system.url) }, wait: false });
      expect((await worker.exited).code).toBe(1);
      expect(worker.log()).toMatch(/pooler.*DATABASE_DIRECT_URL/);
      await letGo(system);
    });
  });

  test.for(STORES)('set up, worked once and searched through it: store %s', async (store) => {
    const fixture = await openFixture();
    const pooled = createClient({
      databaseUrl: bouncer.url(fixture.url),
      directUrl: fixture.url,
      env: {},
      configFile: false,
    });
    try {
      await pooled.schema.apply();
      await fixture.db.exec(`CREATE TABLE note (id bigint PRIMARY KEY, body text);
        INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 500) i`);
      const held = await pooled.sources.add({ table: 'note', content: { columns: ['body'] }, model: MODEL, store });
      await pooled.workOnce();
      await expectFresh(fixture, held, { text: 'body' });
      expect(await indexState(fixture.db, held.source, held.space)).toBe('valid');
      const searches = Array.from({ length: 20 }, (_, i) => pooled.search('note', { text: `note ${i + 1}`, k: 1 }));
      for (const [i, { results }] of (await Promise.all(searches)).entries())
        expect(results).toMatchObject([{ key: i + 1 }]);
      await pooled.sources.remove('note', { dropVectors: true });
    } finally {
      await pooled.close();
      await fixture.db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'test'`);
      await fixture.close();
    }
  });

  async function hasIndex({ db }: System): Promise<boolean> {
    return (await vectorIndexes(db)).some(({ valid }) => valid);
  }

  /** The pooler keeps its connections to the database, which is to be dropped. */
  async function letGo({ db }: System): Promise<void> {
    await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name NOT IN ('oracle', 'app')`);
  }
});
