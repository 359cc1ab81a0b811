import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, createClient, type Settings } from '../../src/index.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { embeddedDirectory, removeEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';
import { NOTE, NOTE_TOKENS, type PaidProvider, PRICES, startPaidProvider } from './paid-provider.js';

const ROWS = 60;
/** USD: for some 45 of the notes, and what a look at the model costs. */
const CAP = 45;

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
    expect(spent.total).toEqual({ texts: paid, tokens: paid * NOTE_TOKENS, usd: paid });
    expect(spent.cap?.perDay).toBe(CAP);
    expect(spent.cap?.today).toBeGreaterThanOrEqual(paid);
    expect(spent.cap?.today).toBeLessThanOrEqual(CAP);
    // Paused: not even asked for.
    expect(await poor.workOnce()).toMatchObject({ claimed: 0, remaining: expect.any(Number) });
    expect(provider.paid).toHaveLength(paid);

    const rich = await open(1000, openai);
    expect(await rich.workOnce()).toMatchObject({ claimed: 0 });
    expect(await rich.resume('notes')).toBe(true);
    expect(await rich.workOnce()).toMatchObject({ written: ROWS - paid, remaining: 0 });
    const after = await status(rich);
    expect(after).toMatchObject({ rows: ROWS, fresh: ROWS, stale: 0, failed: 0 });
    expect(after).not.toHaveProperty('paused');
    expect([provider.paid.length, new Set(provider.paid).size]).toEqual([ROWS, ROWS]);
    expect((await rich.spend()).total).toEqual({ texts: ROWS, tokens: ROWS * NOTE_TOKENS, usd: ROWS });
  }

  const once = async (of: Client) => {
    await expect(of.workOnce()).rejects.toMatchObject({ code: 'embed_spend_cap', message: capped.reason });
  };

  test('stops `work --once` between two claims; the rest waits for more money', () => expectCap({}, once));

  test.runIf(engine === 'postgres')('stops it within a claim of several requests', () =>
    expectCap({ maxInputs: 2 }, once),
  );

  test('stops a running worker, which goes on once there is money again', async () => {
    await expectCap({}, async (of) => {
      const stop = new AbortController();
      const working = of.work({ signal: stop.signal });
      await eventually(async () => (await status(of))?.paused !== undefined, { what: 'the pause' });
      stop.abort();
      await working;
    });
  });

  test.runIf(engine === 'postgres')('a running worker heeds `resume` at once', async () => {
    const of = await open(CAP);
    const stop = new AbortController();
    const working = of.work({ signal: stop.signal });
    try {
      await eventually(async () => (await status(of))?.paused !== undefined, { what: 'the pause' });
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
