import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROBE_TEXTS } from '../../src/embed/probe.js';
import { estimateTokens } from '../../src/embed/tokens.js';
import type { SpendReport } from '../../src/index.js';
import { NOTE, NOTE_TOKENS, type PaidProvider, PRICES, startPaidProvider } from '../budget/paid-provider.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshvec, type Ran, sql } from './support.js';

let database: TestDatabase;
let provider: PaidProvider;
let cwd: string;
beforeAll(async () => {
  [database, provider] = await Promise.all([freshDatabase(), startPaidProvider()]);
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-spend-'));
  writeFileSync(join(cwd, 'freshvec.config.json'), JSON.stringify({ prices: PRICES }));
  await sql(
    database.url,
    ['paid', 'unpriced', 'local']
      .map(
        (name) => `CREATE TABLE ${name} (id int PRIMARY KEY, body text);
        INSERT INTO ${name} SELECT i, ${NOTE} FROM generate_series(1, 3) i;`,
      )
      .join('\n'),
  );
  await on('schema', 'apply');
});
afterAll(async () => {
  rmSync(cwd, { recursive: true });
  await provider.close();
  await database.drop();
});

const with_ = (env: Record<string, string>, ...argv: string[]): Promise<Ran> =>
  freshvec(argv, {
    env: { DATABASE_URL: database.url, OPENAI_API_KEY: 'sk-test', OPENAI_BASE_URL: provider.baseUrl, ...env },
    cwd,
  });
const on = (...argv: string[]) => with_({}, ...argv);
const spend = async (...argv: string[]) => (await on('spend', ...argv, '--json')).json<SpendReport>();

async function add(table: string, model: string): Promise<void> {
  const ran = await on('source', 'add', table, '--content', 'body', '--model', model, '--index', 'none', '--yes');
  expect(ran.code).toBe(0);
}

const PROBE_TOKENS = [...PROBE_TEXTS, 'freshvec'].reduce((sum, text) => sum + estimateTokens(text), 0);

test('nothing yet', async () => {
  expect(await spend()).toEqual({ spend: [], total: { texts: 0, tokens: 0, usd: 0 }, cap: null });
  expect(await on('spend')).toMatchObject({ code: 0, stdout: 'Nothing was charged in the last 30 days.\n' });
});

test('a paid model, one whose price nobody knows, and a free one', async () => {
  await add('paid', 'openai/paid@4');
  await add('unpriced', 'openai/unpriced@4');
  await add('local', 'fake/local@4');
  expect((await on('work', '--once')).code).toBe(0);
  const { spend: rows, total, cap } = await spend();
  const [day] = new Date().toISOString().split('T');
  const of = (source: string, model: string, usd: number | null, what: object = {}) => ({
    ...{ day, source, purpose: 'rows', texts: 3, tokens: 3 * NOTE_TOKENS, usd, ...what },
    model: expect.stringMatching(new RegExp(`^${model}@4#[0-9a-f]{8}$`)),
  });
  // What `source add` tries, and three texts that tell the model from another.
  const probe = { purpose: 'probe', texts: 4, tokens: PROBE_TOKENS };
  expect(rows).toEqual([
    of('local', 'fake/local', 0),
    of('paid', 'openai/paid', PROBE_TOKENS / 100, probe),
    of('paid', 'openai/paid', 3),
    of('unpriced', 'openai/unpriced', null, probe),
    of('unpriced', 'openai/unpriced', null),
  ]);
  expect([total, cap]).toEqual([
    { texts: 17, tokens: 9 * NOTE_TOKENS + 2 * PROBE_TOKENS, usd: 3 + PROBE_TOKENS / 100 },
    null,
  ]);

  const { stdout } = await on('spend');
  expect(stdout).toMatch(/^day\s+source\s+model\s+for\s+texts\s+tokens\s+USD$/m);
  expect(stdout).toMatch(/local\s+fake\/local@4#\w+\s+rows\s+3\s+300\s+0\.00$/m);
  expect(stdout).toMatch(/paid\s+openai\/paid@4#\w+\s+rows\s+3\s+300\s+3\.00$/m);
  expect(stdout).toMatch(/unpriced\s+openai\/unpriced@4#\w+\s+rows\s+3\s+300\s+unknown$/m);
  expect(stdout).toMatch(/^total\s+17\s+1,072\s+3\.86 \+ unknown$/m);
  expect(stdout).toContain('`prices`');
  expect(stdout).not.toContain('Today');
});

test('a text by itself, and a query, are told too', async () => {
  expect((await on('search', 'paid', 'what is it')).code).toBe(0);
  expect((await on('embed', 'a text', '--model', 'openai/paid@4')).code).toBe(0);
  const { spend: rows } = await spend();
  expect(rows).toContainEqual(expect.objectContaining({ source: 'paid', purpose: 'query', texts: 1, usd: 0.03 }));
  expect(rows).toContainEqual(expect.objectContaining({ source: null, purpose: 'text', texts: 1, usd: 0.02 }));
  expect((await on('spend')).stdout).toMatch(/ - +openai\/paid@4#\w+ +text +1 +2 +0\.02$/m);
  const [day] = await sql<{ nanos: string }>(database.url, 'SELECT nanos FROM freshvec.spend_day');
  const priced = rows.reduce((sum, { usd }) => sum + Math.round((usd ?? 0) * 1e9), 0);
  expect(Number(day?.nanos)).toBe(priced);
  await sql(database.url, `DELETE FROM freshvec.spend WHERE purpose <> 'rows'`);
});

test('a price that came later does not make the past free', async () => {
  const prices = { ...PRICES, 'openai/unpriced': 1 };
  writeFileSync(join(cwd, 'later.json'), JSON.stringify({ prices }));
  const rows = async (...argv: string[]) => (await spend(...argv)).spend.map(({ source, usd }) => [source, usd]);
  expect(await rows('--config', 'later.json')).toContainEqual(['unpriced', null]);
  writeFileSync(join(cwd, 'free.json'), JSON.stringify({ prices: { ...prices, 'openai/unpriced': 0 } }));
  expect(await rows('--config', 'free.json')).toContainEqual(['unpriced', 0]);
});

test('the cap, and today against it', async () => {
  const ran = await with_({ FRESHVEC_SPEND_PER_DAY: '5.5' }, 'spend', '--json');
  const { cap } = ran.json<SpendReport>();
  expect(cap?.perDay).toBe(5.5);
  // Three dollars for the notes; looks at the model cost a little on top.
  expect(cap?.today).toBeGreaterThanOrEqual(3);
  expect(cap?.today).toBeLessThan(5.5);
  const { stdout } = await with_({ FRESHVEC_SPEND_PER_DAY: '5.5' }, 'spend');
  expect(stdout).toMatch(/^Today: \$[345]\.\d+ of the \$5\.50 that a day may cost\.$/m);
});

test('days, sources that are gone, and sums to the millionth', async () => {
  await sql(
    database.url,
    `INSERT INTO freshvec.spend SELECT (now() AT TIME ZONE 'UTC')::date - n, 'gone', 1, 'openai/paid@4#00000000', 'rows', 1, 1, n * 1000
     FROM generate_series(6, 40) n;
     INSERT INTO freshvec.spend SELECT (now() AT TIME ZONE 'UTC')::date - 29, 'older', 2, 'static/no-more@9#00000000', 'rows', 1, 1, 0`,
  );
  expect((await spend('--days', '6')).spend).toHaveLength(3);
  const week = await spend('--days', '7');
  expect(week.spend).toHaveLength(4);
  expect(week.spend[3]).toMatchObject({ source: 'gone', usd: 0.000006 });
  expect(week.total.usd).toBe(3.000006);
  expect((await on('spend', '--days', '7')).stdout).toMatch(/^total\s+10\s+901\s+3\.000006 \+ unknown$/m);
  const month = await spend();
  expect(month.spend).toHaveLength(3 + 24 + 1);
  // A model that this version does not know has no known price.
  expect(month.spend).toContainEqual(expect.objectContaining({ source: 'older', usd: null }));
  expect((await spend('--days', '999999999')).spend).toHaveLength(3 + 35 + 1);
});
