import { afterAll, beforeAll, expect, test } from 'vitest';
import { asSingleton } from '../../src/claim/singleton.js';
import { analyze } from '../../src/maintenance/analyze.js';
import { proposeAutovacuum, setAutovacuum } from '../../src/maintenance/autovacuum.js';
import { listMaintenance } from '../../src/maintenance/list.js';
import { EVERY, pauseService, resumeService } from '../../src/maintenance/pauses.js';
import { listRuns, logAfterwards, logged } from '../../src/maintenance/run-log.js';
import { DEFAULT_MAINTENANCE, runService } from '../../src/maintenance/services.js';
import { inWindow } from '../../src/maintenance/window.js';
import { openQueue } from '../../src/queue/open.js';
import { startMaintainer } from '../../src/worker/maintain.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { vectorSource } from './vector-source.js';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

const LIMITS = { lockTimeoutMs: 10_000, byPerson: true } as const;
const settings = DEFAULT_MAINTENANCE;

test.each([
  ['22:00-06:00', 'UTC', '2026-01-10T21:59:00Z', false],
  ['22:00-06:00', 'UTC', '2026-01-10T22:00:00Z', true],
  ['22:00-06:00', 'UTC', '2026-01-10T05:59:59Z', true],
  ['22:00-06:00', 'UTC', '2026-01-10T06:00:00Z', false],
  ['01:30-02:00', 'UTC', '2026-01-10T01:45:00Z', true],
  ['01:30-02:00', 'UTC', '2026-01-10T00:45:00Z', false],
  ['01:30-02:00', 'Europe/Berlin', '2026-01-10T00:45:00Z', true],
  ['01:30-02:00', 'Europe/Berlin', '2026-07-10T00:45:00Z', false],
  ['00:00-23:59', 'America/New_York', '2026-01-10T04:30:00Z', true],
])('the window %s %s at %s: %s', (window, timeZone, at, within) => {
  expect(inWindow(window, timeZone, new Date(at))).toBe(within);
  expect(inWindow(undefined, timeZone, new Date(at))).toBe(true);
});

test('heavy services keep to the window, unless a person asks; the others do not', async () => {
  const { db } = fixture;
  const [clock] = await db.query<{ window: string }>(
    `SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 h', 'HH24:MI') || '-' || to_char(now() AT TIME ZONE 'UTC' + interval '3 h', 'HH24:MI') AS window`,
  );
  const context = { db, settings: { ...settings, window: clock?.window }, byPerson: false };
  for (const service of ['vacuum', 'reindex', 'analyze'] as const) {
    expect(await runService(service, context)).toBe('outside_window');
    expect(await runService(service, { ...context, byPerson: true })).toBe('nothing');
  }
  expect(await runService('index', context)).toBe('nothing');
  await expect(runService('cache', { ...context, source: 'x' })).rejects.toMatchObject({
    code: 'maintenance_request_invalid',
  });
});

test('a person is told that somebody else tends the table, not that there was nothing to do', async () => {
  const { db } = fixture;
  const { source } = await vectorSource(fixture, { table: 'tended', rows: 20, dimensions: 8 });
  const turn = () => runService('index', { db, settings, byPerson: true, source: 'tended' });
  await asSingleton(db, `index:${source.relation.oid}`, async () => {
    expect(await turn()).toBe('nothing');
  });
  const [run] = await listRuns(db, { limit: 1 });
  expect(run).toMatchObject({ service: 'index', source: 'tended', outcome: 'busy', byPerson: true });
  expect(await turn()).toBe('done');
  await db.exec(`DROP TABLE tended CASCADE; DELETE FROM freshvec.source WHERE name = 'tended'`);
});

test('a pause of one service, and of all', async () => {
  const { db } = fixture;
  const context = { db, settings, byPerson: true };
  await pauseService(db, { service: 'leaves', reason: 'a', byWhom: 'me' });
  expect(await runService('leaves', context)).toBe('paused');
  expect(await runService('index', context)).toBe('nothing');
  await pauseService(db, { service: EVERY, reason: 'b', byWhom: 'me' });
  expect(await runService('index', context)).toBe('paused');
  const { services } = await listMaintenance(db, { limit: 1, everyMs: {}, settings });
  expect(services.map(({ service, paused }) => [service, paused?.reason])).toEqual(
    ['index', 'cache', 'leaves', 'sweep', 'analyze', 'vacuum', 'reindex'].map((s) => [s, s === 'leaves' ? 'a' : 'b']),
  );
  expect(await resumeService(db, 'index')).toBe(false);
  expect(await resumeService(db, EVERY)).toBe(true);
  expect(await runService('leaves', context)).toBe('nothing');
});

test('statistics: of a table that has none, of a parent, and once only', async () => {
  const { db } = fixture;
  await vectorSource(fixture, { table: 'plain', rows: 1_200, dimensions: 8 });
  await vectorSource(fixture, { table: 'parts', rows: 2_400, dimensions: 8, partitions: 2 });
  await eventually(async () => (await analyze(db, { ...LIMITS, source: 'plain' })) === 1, { what: 'the statistics' });
  expect(await analyze(db, { ...LIMITS, source: 'plain' })).toBe(0);
  await eventually(async () => (await analyze(db, { ...LIMITS, source: 'parts' })) > 0, { what: 'the statistics' });
  // The leaves first, whose sizes tell of the parent's, which then reads them all.
  await eventually(async () => (await analyze(db, { ...LIMITS, source: 'parts' })) === 0, { what: 'rest' });
  const [row] = await db.query<{ rows: number }>(`SELECT reltuples AS rows FROM pg_class WHERE relname = 'parts'`);
  expect(row?.rows).toBe(2_400);
  const runs = (await listRuns(db, { limit: 20 })).filter(({ service }) => service === 'analyze');
  expect(runs.map(({ relation }) => relation)).toContain('public.parts');
  expect(runs.every(({ outcome }) => outcome === 'done')).toBe(true);
});

test('autovacuum settings are proposed with their SQL, set on request, and logged with the way back', async () => {
  const { db } = fixture;
  await vectorSource(fixture, { table: 'tuned', rows: 20_000, dimensions: 2, index: 'none' });
  await db.session((session) => session.query('ANALYZE tuned'));
  const proposals = await proposeAutovacuum(db, 'tuned');
  expect(proposals).toEqual([
    {
      ...{
        source: 'tuned',
        relation: 'public.tuned',
        why: expect.stringContaining('autovacuum is off for this table'),
      },
      sql: 'ALTER TABLE "public"."tuned" RESET (autovacuum_enabled)',
      undo: 'ALTER TABLE "public"."tuned" SET (autovacuum_enabled = false)',
    },
    {
      ...{
        source: 'tuned',
        relation: 'public.tuned',
        why: expect.stringContaining('autovacuum waits for 4000 dead rows'),
      },
      sql: 'ALTER TABLE "public"."tuned" SET (autovacuum_vacuum_scale_factor = 0.05)',
      undo: 'ALTER TABLE "public"."tuned" RESET (autovacuum_vacuum_scale_factor)',
    },
  ]);
  const options = async () =>
    (await db.query<{ o: string[] | null }>(`SELECT reloptions AS o FROM pg_class WHERE relname = 'tuned'`))[0]?.o;
  expect(await options()).toEqual(['autovacuum_enabled=false']);
  expect(await setAutovacuum(db, { source: 'tuned', byPerson: true })).toEqual(proposals);
  expect(await options()).toEqual(['autovacuum_vacuum_scale_factor=0.05']);
  expect(await proposeAutovacuum(db, 'tuned')).toEqual([]);
  const [run] = await listRuns(db, { limit: 1 });
  expect(run).toMatchObject({
    service: 'settings',
    outcome: 'done',
    did: expect.stringContaining('to undo: ALTER TABLE'),
  });
});

test('the log keeps the newest of each service, and counts what comes to the same', async () => {
  const { db } = fixture;
  await logged(db, { service: 'kept', byPerson: false, did: 'once' }, async () => {});
  for (let i = 0; i < 205; i++) {
    await logAfterwards(db, { service: 'noisy', byPerson: false, did: `evicted ${i}` }, 'done');
    await logAfterwards(db, { service: 'same', byPerson: false, did: 'failed' }, 'failed', 'the same error');
  }
  const runs = await listRuns(db, { limit: 1_000 });
  const of = (service: string) => runs.filter((run) => run.service === service);
  expect(of('noisy').length).toBe(200);
  expect(of('noisy')[0]?.did).toBe('evicted 204');
  expect(of('same')).toMatchObject([{ times: 205, outcome: 'failed', error: 'the same error' }]);
  expect(of('kept')).toMatchObject([{ did: 'once', outcome: 'done' }]);
});

test('a failure is on record and thrown', async () => {
  const { db } = fixture;
  const failing = logged(db, { service: 'failing', byPerson: false, did: 'trying' }, async () => {
    throw new Error('no luck');
  });
  await expect(failing).rejects.toThrow('no luck');
  expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ outcome: 'failed', did: 'trying', error: 'no luck' });
});

test('the maintainer runs heavy services by schedule, beside the others, and ends with them', async () => {
  const { db, url } = fixture;
  await vectorSource(fixture, { table: 'scheduled', rows: 1_500, dimensions: 8 });
  const errors: unknown[] = [];
  const queue = await openQueue({ backend: 'postgres', url }, { onError: () => {} });
  const maintainer = await startMaintainer({
    ...{ db, queue, onError: (error: unknown) => errors.push(error) },
    schedule: { analyze: 300, index: 300, vacuum: 300 },
  });
  try {
    await eventually(
      async () => {
        const { services, runs } = await listMaintenance(db, { limit: 50, everyMs: {}, settings });
        const last = (name: string) => services.find(({ service }) => service === name)?.last?.outcome;
        return (
          last('vacuum') === 'nothing' &&
          runs.some(({ service, source }) => service === 'index' && source === 'scheduled') &&
          runs.some(({ service, source }) => service === 'analyze' && source === 'scheduled')
        );
      },
      { timeoutMs: 40_000, what: 'index and statistics' },
    );
  } finally {
    await maintainer.stop();
  }
  expect(errors).toEqual([]);
});

test('on the embedded database too', async () => {
  const embedded = await openFixture('pglite');
  try {
    const { db } = embedded;
    await vectorSource(embedded, { table: 'small', rows: 1_100, dimensions: 8, index: 'hnsw' });
    const context = { db, settings: { ...settings, bloatRatio: 1.1 }, byPerson: true };
    expect(await runService('index', context)).toBe('done');
    for (const service of ['analyze', 'vacuum', 'reindex'] as const) await runService(service, context);
    const { reindexSource } = await import('../../src/maintenance/reindex-source.js');
    expect(await reindexSource(db, 'small', {}, LIMITS)).toMatchObject({ outcome: 'rebuilt' });
    expect(await reindexSource(db, 'small', { m: 8 }, LIMITS)).toMatchObject({ outcome: 'swapped' });
    const [run] = await listRuns(db, { limit: 1 });
    expect(run?.recallAfter).toBeGreaterThan(0.8);
  } finally {
    await embedded.close();
  }
});
