import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import pg from 'pg';
import { register } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { recordSpend } from '../../src/budget/spend.js';
import { observedModels } from '../../src/client/observed-models.js';
import type { Database } from '../../src/db/database.js';
import { readOnly } from '../../src/db/snapshot.js';
import { POISON } from '../../src/embed/providers/fake.js';
import { shared } from '../../src/observe/deadline.js';
import { Metrics } from '../../src/observe/metrics.js';
import { judgeFreshness, type Readings, type SourceReading } from '../../src/observe/readings.js';
import { readSources } from '../../src/status/readings.js';
import { createModels } from '../../src/worker/models.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { parse, valuesOf } from './prometheus.js';

const fail = (error: unknown) => {
  throw error;
};
const LIMITS = { statementMs: 5_000, budgetMs: 30_000, onError: fail };

const reading = (more: Partial<SourceReading> = {}): SourceReading => ({
  source: 'notes',
  counts: { rows: { fresh: 1, stale: 0, failed: 0, leased: 0 }, coverage: 1 },
  oldestStaleSeconds: 0,
  backlog: { interactive: 0, bulk: 0, waiting: 0, ranges: 0 },
  failures: new Map(),
  migration: undefined,
  ...more,
});

const metricsOf = (read: () => Promise<Readings>, onError: (error: unknown) => void = fail) =>
  new Metrics({ read, onError });
const nothing = async (): Promise<Readings> => ({ sources: [], unreadable: [] });

describe('what a process did', () => {
  test('is counted by source, outcome, model and failure', async () => {
    const metrics = metricsOf(nothing);
    const drained = { source: 'notes', model: 'fake/m@4#1', written: 5, unpaid: 2, failed: 1, delayed: 0, tokens: 70 };
    metrics.drained(drained);
    metrics.drained({ ...drained, failed: 0, delayed: 3 });
    metrics.embedded({ model: 'fake/m@4#1', seconds: 0.2 });
    metrics.embedded({ model: 'fake/m@4#1', seconds: 100 });
    metrics.providerFailed({ model: 'fake/m@4#1', failure: 'rate_limited' });
    metrics.written({ source: 'notes', seconds: 0.03 });
    metrics.settled({ source: 'notes', lagSeconds: [0.2, 40] });
    metrics.limits({ account: 'a1', model: 'fake/m@4#1', requests: 9, tokens: 1000 });
    metrics.limits({ account: 'a1', model: 'fake/m@4#1', requests: 8 });
    const samples = parse(await metrics.text());
    expect(valuesOf(samples, 'freshvec_rows_total', 'source', 'outcome')).toEqual({
      'notes,written': 10,
      'notes,unpaid': 4,
      'notes,failed': 1,
      'notes,delayed': 3,
    });
    expect(valuesOf(samples, 'freshvec_tokens_total', 'source', 'model')).toEqual({ 'notes,fake/m@4#1': 140 });
    expect(valuesOf(samples, 'freshvec_embed_batch_seconds_count', 'model')).toEqual({ 'fake/m@4#1': 2 });
    expect(valuesOf(samples, 'freshvec_embed_batch_seconds_bucket', 'le')).toMatchObject({
      '0.1': 0,
      '0.25': 1,
      '30': 1,
      '+Inf': 2,
    });
    expect(valuesOf(samples, 'freshvec_write_seconds_bucket', 'source', 'le')).toMatchObject({
      'notes,0.02': 0,
      'notes,0.03': 1,
    });
    expect(valuesOf(samples, 'freshvec_lag_seconds_bucket', 'le')).toMatchObject({ '0.1': 0, '30': 1, '60': 2 });
    expect(valuesOf(samples, 'freshvec_provider_errors_total', 'model', 'failure')).toEqual({
      'fake/m@4#1,rate_limited': 1,
    });
    expect(valuesOf(samples, 'freshvec_provider_limit_remaining', 'account', 'model', 'kind')).toEqual({
      'a1,fake/m@4#1,requests': 8,
      'a1,fake/m@4#1,tokens': 1000,
    });
  });

  test('stands beside the metrics of Node, in a registry of its own', async () => {
    const [one, other] = [metricsOf(nothing), metricsOf(nothing)];
    one.providerFailed({ model: 'm', failure: 'unavailable' });
    const names = new Set(parse(await one.text()).map(({ name }) => name));
    expect(names).toContain('freshvec_process_cpu_seconds_total');
    expect(names).toContain('freshvec_nodejs_eventloop_lag_seconds');
    expect([...names].filter((name) => !name.startsWith('freshvec_'))).toEqual([]);
    expect(valuesOf(parse(await other.text()), 'freshvec_provider_errors_total', 'model')).toEqual({});
    expect(register.getMetricsAsArray()).toEqual([]);
    expect(one.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });
});

describe('requests to a model', () => {
  let server: Server;
  let respond: (response: ServerResponse) => void;
  let baseUrl: string;
  beforeAll(async () => {
    server = createServer((request, response) => {
      request.resume().on('end', () => respond(response));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    baseUrl = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/v1`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  const json = (response: ServerResponse, status: number, body: object, headers: Record<string, string>) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));

  test('are timed, their failures counted, and the limits kept that the provider names', async () => {
    const metrics = metricsOf(nothing);
    const models = observedModels(
      createModels({ openai: { apiKey: 'sk-very-secret', baseUrl }, requestTimeoutMs: 5_000 }),
      metrics,
    );
    const model = await models.get('openai/test@2');
    expect(await models.get('openai/test@2')).toBe(model);
    const embed = () => model.embed(['a secret text'], { purpose: 'document' });
    const data = [{ object: 'embedding', index: 0, embedding: [1, 2] }];
    const left = (requests: number) => ({
      'x-ratelimit-remaining-requests': String(requests),
      'x-ratelimit-remaining-tokens': '900',
    });
    respond = (response) => json(response, 200, { data, usage: { prompt_tokens: 3, total_tokens: 3 } }, left(7));
    expect((await embed()).tokens).toBe(3);
    respond = (response) => json(response, 429, { error: { message: 'slow down' } }, left(0));
    await expect(embed()).rejects.toMatchObject({ failure: 'rate_limited' });
    respond = (response) => json(response, 200, { data: [] }, {});
    await expect(embed()).rejects.toMatchObject({ failure: 'bad_response' });
    await expect(
      model.embed(['x'], { purpose: 'document', signal: AbortSignal.abort(new Error('cut')) }),
    ).rejects.toThrow('cut');
    await models.close();

    const text = await metrics.text();
    const samples = parse(text);
    const name = model.fingerprint;
    expect(valuesOf(samples, 'freshvec_embed_batch_seconds_count', 'model')).toEqual({ [name]: 1 });
    expect(valuesOf(samples, 'freshvec_provider_errors_total', 'model', 'failure')).toEqual({
      [`${name},rate_limited`]: 1,
      [`${name},bad_response`]: 1,
    });
    expect(valuesOf(samples, 'freshvec_provider_limit_remaining', 'account', 'model', 'kind')).toEqual({
      [`${model.account},${name},requests`]: 0,
      [`${model.account},${name},tokens`]: 900,
    });
    expect(text).not.toMatch(/secret|127\.0\.0\.1/);
  });
});

describe('what is read of the sources', () => {
  test('names of any form survive', async () => {
    const source = 'a "quoted\\one"\n2';
    const samples = parse(await metricsOf(async () => ({ sources: [reading({ source })], unreadable: [] })).text());
    expect(valuesOf(samples, 'freshvec_coverage_ratio', 'source')).toEqual({ [source]: 1 });
  });

  test('at most 20 codes have a series of their own, the rest is "other"', async () => {
    const failures = new Map(Array.from({ length: 30 }, (_, i) => [`code_${i}`, 100 - i]));
    failures.set('other', 5);
    const samples = parse(await metricsOf(async () => ({ sources: [reading({ failures })], unreadable: [] })).text());
    const shown = valuesOf(samples, 'freshvec_failures', 'code');
    expect(Object.keys(shown)).toHaveLength(21);
    expect(shown).toMatchObject({ code_0: 100, code_19: 81 });
    expect(shown.other).toBe(5 + 80 + 79 + 78 + 77 + 76 + 75 + 74 + 73 + 72 + 71);
  });

  test('money is shown by source and model, the 50 dearest by name, with the cap where there is one', async () => {
    const rows = Array.from({ length: 60 }, (_, i) => ({ source: `s${i}`, model: 'm', usd: 100 - i }));
    rows.push({ source: 's0', model: 'm', usd: 0.5 }, { source: 's1', model: 'free', usd: 0 });
    const spend = { rows: [...rows, { source: null, model: 'm', usd: 70.5 }], usd: 9 };
    const read = async () => ({ sources: [], unreadable: [], spend });
    const samples = parse(await new Metrics({ read, capPerDay: 12, onError: fail }).text());
    const shown = valuesOf(samples, 'freshvec_spend_today_usd', 'source', 'model');
    expect(Object.keys(shown)).toHaveLength(51);
    expect(shown).toMatchObject({ 's0,m': 100.5, ',m': 70.5, 's48,m': 52 });
    expect(shown['other,other']).toBe(51 + 50 + 49 + 48 + 47 + 46 + 45 + 44 + 43 + 42 + 41);
    expect(valuesOf(samples, 'freshvec_spend_cap_usd', 'per')).toEqual({ day: 12 });
    expect(valuesOf(samples, 'freshvec_spend_cap_used_usd', 'per')).toEqual({ day: 9 });

    const without = parse(await metricsOf(nothing).text());
    expect(valuesOf(without, 'freshvec_spend_cap_usd', 'per')).toEqual({});
    expect(valuesOf(without, 'freshvec_spend_cap_used_usd', 'per')).toEqual({});
  });

  test('a move that is parked can be alerted on; one that has ended is gone', async () => {
    const moves: SourceReading['migration'][] = [{ state: 'parked', paused: false }, undefined];
    const metrics = metricsOf(async () => ({ sources: [reading({ migration: moves.shift() })], unreadable: [] }));
    const seen = async () => valuesOf(parse(await metrics.text()), 'freshvec_migration', 'source', 'state', 'paused');
    expect(await seen()).toEqual({ 'notes,parked,false': 1 });
    expect(await seen()).toEqual({});
  });

  test('a stale row of unknown age is infinitely old, and late', async () => {
    const readings = { sources: [reading({ oldestStaleSeconds: null })], unreadable: [] };
    const samples = parse(await metricsOf(async () => readings).text());
    expect(valuesOf(samples, 'freshvec_oldest_stale_seconds')).toEqual({ '': Number.POSITIVE_INFINITY });
    expect(judgeFreshness(readings, 30)).toMatchObject({ status: 'late', late: [{ oldestStaleSeconds: null }] });
  });

  test('what cannot be read is gone, not old, and the scrape says so', async () => {
    const answers: (() => Readings)[] = [
      () => ({ sources: [reading(), reading({ source: 'big' })], unreadable: [] }),
      () => ({ sources: [reading()], unreadable: ['big'] }),
      () => fail(new Error('the database is away')),
    ];
    const errors: unknown[] = [];
    const metrics = metricsOf(
      async () => (answers.shift() ?? fail)(undefined),
      (error) => errors.push(error),
    );
    const scrape = async () => parse(await metrics.text());
    const seen = async () => {
      const samples = await scrape();
      return [
        valuesOf(samples, 'freshvec_database_up')[''],
        valuesOf(samples, 'freshvec_source_readable', 'source'),
        Object.keys(valuesOf(samples, 'freshvec_coverage_ratio', 'source')),
      ];
    };
    expect(await seen()).toEqual([1, { notes: 1, big: 1 }, ['notes', 'big']]);
    expect(await seen()).toEqual([1, { notes: 1, big: 0 }, ['notes']]);
    expect(await seen()).toEqual([0, {}, []]);
    expect(errors).toHaveLength(1);
  });
});

describe('the bound', () => {
  test('is met by what is younger, not by what is as old', () => {
    const readings = { sources: [reading({ source: 'a', oldestStaleSeconds: 30 })], unreadable: [] };
    expect(judgeFreshness(readings, 30.01)).toMatchObject({ status: 'fresh', late: [] });
    expect(judgeFreshness(readings, 30)).toMatchObject({
      status: 'late',
      late: [{ source: 'a', oldestStaleSeconds: 30 }],
    });
    expect(judgeFreshness({ sources: [], unreadable: ['b'] }, 30)).toMatchObject({ status: 'late', unreadable: ['b'] });
  });
});

describe('a shared question', () => {
  test('is put once for all who ask, and again when its answer is old', async () => {
    let asked = 0;
    const ask = shared(async () => ++asked, { keepMs: 50, waitMs: 1_000, what: 'it' });
    expect(await Promise.all([ask(), ask(), ask()])).toEqual([1, 1, 1]);
    expect(await ask()).toBe(1);
    await expect.poll(ask, { interval: 5 }).toBe(2);
  });

  test('is not put beside itself when it is slow, and failures count as answers', async () => {
    let asked = 0;
    let answer: (error: Error) => void = () => {};
    const ask = shared(
      () => {
        asked += 1;
        return new Promise<never>((_, reject) => {
          answer = reject;
        });
      },
      { keepMs: 60_000, waitMs: 20, what: 'it' },
    );
    await expect(ask()).rejects.toMatchObject({ code: 'too_slow' });
    await expect(ask()).rejects.toMatchObject({ code: 'too_slow' });
    answer(new Error('away'));
    await expect(ask()).rejects.toThrow('away');
    await expect(ask()).rejects.toThrow('away');
    expect(asked).toBe(1);
  });
});

describe.each<Engine>(['postgres', 'pglite'])('a source with fresh, stale and failed rows (%s)', (engine) => {
  let fixture: Fixture;
  let db: Database;
  beforeAll(async () => {
    fixture = await openFixture(engine);
    db = fixture.db;
    await db.exec(`CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text);
      INSERT INTO notes SELECT i, 'tenant-' || i, 'a secret text ' || i FROM generate_series(1, 8) i;
      INSERT INTO notes VALUES (9, 'tenant-9', 'bad ${POISON}'), (10, 'tenant-10', '  ')`);
    const content = { columns: ['body'] };
    await fixture.add({ table: 'notes', content, model: 'fake/m@4', index: 'none', tenant: 'tenant' });
    await fixture.work();
    // One at a time: a statement that edits several rows may write one of them twice.
    for (const id of [1, 2]) await db.query(`UPDATE notes SET body = 'another secret text' WHERE id = $1`, [id]);
    await db.query(`UPDATE freshvec.change SET at = now() - interval '100 s' WHERE key = '1'`);
  });
  afterAll(() => fixture.close());

  const scrape = async () => {
    const text = await metricsOf(() => readSources(db, LIMITS)).text();
    return { text, samples: parse(text) };
  };

  test('is shown as it is, with neither texts, keys nor tenants', async () => {
    const { text, samples } = await scrape();
    expect(valuesOf(samples, 'freshvec_source_rows', 'source', 'state')).toEqual({
      'notes,fresh': 6,
      'notes,stale': 2,
      'notes,failed': 1,
      'notes,leased': 0,
    });
    expect(valuesOf(samples, 'freshvec_coverage_ratio', 'source').notes).toBeCloseTo(6 / 9);
    expect(valuesOf(samples, 'freshvec_backlog_changes', 'lane')).toEqual({
      interactive: 2,
      bulk: 0,
      waiting: 0,
      ranges: 0,
    });
    const oldest = valuesOf(samples, 'freshvec_oldest_stale_seconds', 'source').notes;
    expect(oldest).toBeGreaterThanOrEqual(100);
    expect(oldest).toBeLessThan(160);
    expect(valuesOf(samples, 'freshvec_failures', 'source', 'code')).toEqual({ 'notes,input_rejected': 1 });
    expect(text).not.toMatch(/secret|tenant|poison/);
  });

  test('what today has cost is shown, of all purposes together, and yesterday is not', async () => {
    const spent = { space: null, fingerprint: 'm#1', texts: 1, tokens: 10, nanos: 2_000_000_000, reserved: 0 };
    const rows = { ...spent, period: null, source: 'notes', purpose: 'rows' } as const;
    await recordSpend(db, [rows, { ...rows, purpose: 'query' }, { ...rows, source: null, purpose: 'text' }]);
    await recordSpend(db, [{ ...rows, period: Date.parse('2020-01-01') / 600_000 }]);
    const { samples } = await scrape();
    const shown = valuesOf(samples, 'freshvec_spend_today_usd', 'source', 'model');
    expect(shown).toEqual({ 'notes,m#1': 4, ',m#1': 2 });
    expect(valuesOf(samples, 'freshvec_spend_cap_used_usd', 'per')).toEqual({ day: 6 });
  });

  test('lanes and waiting keys are told apart, and failures that a person has seen do not count', async () => {
    await db.exec(`INSERT INTO freshvec.change (space_id, lane, key) SELECT max(space_id), 1, '3' FROM freshvec.change;
      INSERT INTO freshvec.lease (space_id, key, expires_at, since)
        SELECT max(space_id), '4', now() + interval '1 h', now() FROM freshvec.change;
      INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
        SELECT max(space_id), 'sweep', 'notes'::regclass, 1, 0, 1 FROM freshvec.change;
      UPDATE freshvec.failure SET discarded = true`);
    const { samples } = await scrape();
    expect(valuesOf(samples, 'freshvec_backlog_changes', 'lane')).toEqual({
      interactive: 2,
      bulk: 1,
      waiting: 1,
      ranges: 1,
    });
    expect(valuesOf(samples, 'freshvec_failures', 'code')).toEqual({});
  });

  test('whoever reads for it can write nothing, and sees one snapshot', async () => {
    const view = readOnly(db, 1_000);
    await expect(view.query(`INSERT INTO notes VALUES (11, 't', 'x')`)).rejects.toMatchObject({ code: '25006' });
    await expect(view.exec('SELECT 1')).rejects.toMatchObject({ code: 'read_only' });
    const [row] = await view.query(`SELECT current_setting('transaction_isolation') AS level`);
    expect(row).toEqual({ level: 'repeatable read' });
    expect(await db.tx((tx) => tx.query(`SELECT current_setting('transaction_isolation') AS level`))).toEqual([
      { level: 'read committed' },
    ]);
  });
});

describe('sources that cannot be read or counted', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
    for (const table of ['good', 'locked', 'gone']) {
      await fixture.db.exec(
        `CREATE TABLE ${table} (id int PRIMARY KEY, body text); INSERT INTO ${table} VALUES (1, 'a')`,
      );
      await fixture.add({ table, content: { columns: ['body'] }, model: 'fake/m@4', index: 'none' });
    }
    await fixture.work();
  });
  afterAll(() => fixture.close());

  test('hide neither the others nor what is on record of them', async () => {
    await fixture.db.exec('ALTER TABLE gone RENAME COLUMN body TO text');
    const app = new pg.Client({ connectionString: fixture.url });
    await app.connect();
    try {
      await fixture.db.exec(`UPDATE locked SET body = 'b'; UPDATE freshvec.change SET at = now() - interval '1 min'`);
      await app.query('BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE');
      const errors: unknown[] = [];
      const readings = await readSources(fixture.db, {
        ...LIMITS,
        statementMs: 100,
        onError: (error) => errors.push(error),
      });
      expect(readings.unreadable).toEqual(['gone']);
      expect(readings.sources.map(({ source, counts }) => [source, counts?.rows.fresh])).toEqual([
        ['good', 1],
        ['locked', undefined],
      ]);
      expect(errors).toMatchObject([{ code: '57014' }]);
      // What is on record is known all the same.
      const verdict = judgeFreshness({ ...readings, unreadable: [] }, 30);
      expect(verdict).toMatchObject({ status: 'late', late: [{ source: 'locked' }], uncounted: ['locked'] });
      expect(judgeFreshness({ ...readings, unreadable: [] }, 600).status).toBe('fresh');
      const samples = parse(await metricsOf(async () => readings).text());
      expect(valuesOf(samples, 'freshvec_source_readable', 'source')).toEqual({ good: 1, locked: 0, gone: 0 });
      expect(Object.keys(valuesOf(samples, 'freshvec_source_rows', 'source'))).toEqual(['good']);
      expect(valuesOf(samples, 'freshvec_oldest_stale_seconds', 'source').locked).toBeGreaterThanOrEqual(60);
    } finally {
      await app.end();
    }
  });

  test('no source is begun once the time is up', async () => {
    expect(await readSources(fixture.db, { ...LIMITS, budgetMs: -1 })).toMatchObject({
      sources: [],
      unreadable: ['gone', 'good', 'locked'],
    });
  });
});

describe('sources that are counted with trouble', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
    await fixture.db.exec(`CREATE TABLE slow (id int PRIMARY KEY, body text);
      CREATE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        PERFORM pg_sleep(0.05); RETURN $1; END $$;
      CREATE TABLE broken (id int PRIMARY KEY, body json);
      INSERT INTO broken VALUES (1, '{"text": "one"}')`);
    await fixture.add({ table: 'slow', content: { sql: 'slowly(body)' }, model: 'fake/m@4', index: 'none' });
    await fixture.add({ table: 'broken', content: { sql: `body ->> 'text'` }, model: 'fake/m@4', index: 'none' });
    await fixture.db.exec(`INSERT INTO broken VALUES (2, '{"text": "\\u0000"}')`);
    await fixture.work();
    await fixture.db.exec(`INSERT INTO slow SELECT i, 'a' FROM generate_series(1, 60) i`);
  });
  afterAll(() => fixture.close());

  test('one that takes too long is left uncounted, and a row whose content fails takes nothing but its own text away', async () => {
    const errors: unknown[] = [];
    const readings = await readSources(fixture.db, { ...LIMITS, statementMs: 500, onError: (e) => errors.push(e) });
    expect(errors).toMatchObject([{ code: '57014' }]);
    expect(readings.unreadable).toEqual([]);
    expect(readings.sources.find(({ source }) => source === 'slow')).toMatchObject({ counts: undefined });
    const broken = readings.sources.find(({ source }) => source === 'broken');
    expect(broken?.counts).toBeDefined();
    expect([...(broken?.failures ?? [])]).toEqual([['content_error', 1]]);
    expect(judgeFreshness({ ...readings, sources: broken ? [broken] : [] }, 30).status).toBe('fresh');
  });
});
