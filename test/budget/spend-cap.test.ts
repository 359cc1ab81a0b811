import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, createClient, type Settings, type SpendReport } from '../../src/index.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { embeddedDirectory, removeEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';
import { NOTE, NOTE_TOKENS, type PaidProvider, PRICES, startPaidProvider } from './paid-provider.js';

const ROWS = 60;
/** USD: for some 45 of the notes, and what a look at the model costs. */
const CAP = 45;

/** As the provider counts notes; looks at the model are apart. */
function spentOnRows({ spend }: SpendReport): SpendReport['total'] {
  const rows = spend.filter(({ purpose }) => purpose === 'rows');
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  return {
    texts: sum(rows.map(({ texts }) => texts)),
    tokens: sum(rows.map(({ tokens }) => tokens)),
    usd: Math.round(sum(rows.map(({ usd }) => usd ?? 0)) * 1e6) / 1e6,
  };
}

describe.each(['postgres', 'pglite'] as const)('the spend cap on %s', (engine) => {
  let provider: PaidProvider;
  let database: TestDatabase | undefined;
  let directory: string | undefined;
  let client: Client | undefined;
  beforeAll(async () => {
    provider = await startPaidProvider();
  });
  afterAll(() => provider.close());
  beforeEach(async () => {
    provider.paid.length = 0;
    provider.chargeOthers = 1;
    if (engine === 'postgres') database = await freshDatabase();
    else directory = embeddedDirectory();
    const first = await open(undefined);
    const db = await first.database();
    await db.exec(`CREATE TABLE notes (id int PRIMARY KEY, body text);
      INSERT INTO notes SELECT i, ${NOTE} FROM generate_series(1, ${ROWS}) i`);
    await first.schema.apply();
    await first.sources.add({ table: 'notes', content: { columns: ['body'] }, model: 'openai/paid@4', index: 'none' });
  });
  afterEach(async () => {
    await client?.close();
    client = undefined;
    await database?.drop();
    if (directory) removeEmbedded(directory);
  });

  /** Closes the client before: one process at a time can have an embedded database open. */
  async function open(perDay: number | undefined, openai: object = {}): Promise<Client> {
    await client?.close();
    const settings: Settings = {
      models: { openai: { apiKey: 'sk-test', baseUrl: provider.baseUrl, ...openai } },
      prices: PRICES,
      worker: { slots: 1, batchKeys: 10 },
      log: { level: 'silent' },
      ...(perDay === undefined ? {} : { spend: { perDay } }),
    };
    const where = database ? { databaseUrl: database.url } : { embedded: directory ?? '' };
    client = createClient({ ...where, env: {}, configFile: false, settings, onError: () => {} });
    return client;
  }

  const status = async (of: Client) => (await of.status({ exact: true })).sources[0];
  const capped = { kind: 'spend', reason: expect.stringMatching(/\$45 a day.*freshvec resume/) };

  /** Nothing is paid beyond the cap, nothing is lost, and with more money the rest is done. */
  async function expectCap(openai: object, work: (of: Client) => Promise<void>): Promise<void> {
    const poor = await open(CAP, openai);
    await work(poor);
    const paid = provider.paid.length;
    expect(paid).toBeGreaterThanOrEqual(5);
    expect(paid).toBeLessThanOrEqual(CAP);
    const before = await status(poor);
    expect(before).toMatchObject({ rows: ROWS, fresh: paid, stale: ROWS - paid, failed: 0, leased: 0, paused: capped });
    const midnight = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    expect(Date.parse(before?.paused?.until ?? '')).toBeLessThanOrEqual(Date.parse(midnight) + 5_000);

    const spent = await poor.spend();
    expect(spentOnRows(spent)).toEqual({ texts: paid, tokens: paid * NOTE_TOKENS, usd: paid });
    // All that was charged is told, the looks at the model too.
    expect(spent.cap).toEqual({ perDay: CAP, today: spent.total.usd });
    expect(spent.cap?.today).toBeLessThanOrEqual(CAP);
    // Most of it could be used.
    expect(spent.cap?.today).toBeGreaterThan(CAP * 0.75);
    // A search goes on, and is charged beyond the cap if need be.
    expect((await poor.search('notes', { text: 'a question' })).results).not.toHaveLength(0);
    const after = await poor.spend();
    const query = { source: 'notes', purpose: 'query', texts: 1, usd: 0.03 };
    expect(after.spend).toContainEqual(expect.objectContaining(query));
    expect(after.cap?.today).toBeCloseTo((spent.cap?.today ?? 0) + query.usd, 6);
    // Paused: not even asked for.
    expect(await poor.workOnce()).toMatchObject({ claimed: 0, remaining: expect.any(Number) });
    expect(provider.paid).toHaveLength(paid);

    const rich = await open(1000, openai);
    expect(await rich.workOnce()).toMatchObject({ claimed: 0 });
    expect(await rich.resume('notes')).toBe(true);
    expect(await rich.workOnce()).toMatchObject({ written: ROWS - paid, remaining: 0 });
    const done = await status(rich);
    expect(done).toMatchObject({ rows: ROWS, fresh: ROWS, stale: 0, failed: 0 });
    expect(done).not.toHaveProperty('paused');
    expect([provider.paid.length, new Set(provider.paid).size]).toEqual([ROWS, ROWS]);
    expect(spentOnRows(await rich.spend())).toEqual({ texts: ROWS, tokens: ROWS * NOTE_TOKENS, usd: ROWS });
  }

  const once = async (of: Client) => {
    await expect(of.workOnce()).rejects.toMatchObject({ code: 'embed_spend_cap', message: capped.reason });
  };

  test('stops `work --once` between two claims; the rest waits for more money', () => expectCap({}, once));

  test.runIf(engine === 'postgres')('holds though the probe taught that texts are cheap', async () => {
    provider.chargeOthers = 0.3;
    const poor = await open(CAP);
    await once(poor);
    const { cap, total } = await poor.spend();
    expect(provider.paid.length).toBeGreaterThanOrEqual(5);
    expect(provider.paid.length).toBeLessThanOrEqual(CAP);
    expect(cap?.today).toBe(total.usd);
    expect(cap?.today).toBeLessThanOrEqual(CAP);
  });

  test.runIf(engine === 'postgres')('stops it within a claim of several requests', () =>
    expectCap({ maxInputs: 2 }, once),
  );

  test('stops a running worker, which goes on once there is money again', { timeout: 120_000 }, async () => {
    await expectCap({}, async (of) => {
      const stop = new AbortController();
      const working = of.work({ signal: stop.signal });
      await eventually(async () => (await status(of))?.paused !== undefined, { what: 'the pause', timeoutMs: 40_000 });
      stop.abort();
      await working;
    });
  });

  test.runIf(engine === 'postgres')('a running worker heeds `resume` at once', async () => {
    const of = await open(CAP);
    const stop = new AbortController();
    const working = of.work({ signal: stop.signal });
    try {
      await eventually(async () => (await status(of))?.paused !== undefined, { what: 'the pause', timeoutMs: 40_000 });
      const before = provider.paid.length;
      // As if the next day had come.
      await (await of.database()).query('DELETE FROM freshvec.spend_day');
      await of.resume('notes');
      await eventually(() => provider.paid.length > before, { what: 'more vectors', timeoutMs: 8_000 });
    } finally {
      stop.abort();
      await working;
    }
  });
});
