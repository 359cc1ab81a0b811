import { encode } from 'gpt-tokenizer/encoding/cl100k_base';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LongTexts } from '../../src/catalog/long-texts.js';
import { getSource } from '../../src/catalog/source.js';
import { PROBE_TEXTS } from '../../src/embed/probe.js';
import { type Client, createClient } from '../../src/index.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { settleRefused } from '../../src/stages/refuse-long.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { type Standin, startStandin } from '../support/standin/standin.js';
import { standinVector } from '../support/standin/vectors.js';

/** The stand-in counts a token for 4 bytes, as our estimate does for ASCII. */
const LIMIT = 64;
const SHORT = 'a short text';
const SENTENCE = 'The quick clerk of the harbour wrote down what the ferry had brought that day. ';
const LONG = `${SENTENCE.repeat(5)}\n\n${SENTENCE.repeat(5)}`;
const OTHER = `Another beginning. ${LONG}`;

let database: TestDatabase;
let standin: Standin;
let client: Client;

beforeAll(async () => {
  database = await freshDatabase();
  standin = await startStandin({ dimensions: 16, maxTokensPerInput: LIMIT });
  client = open({ maxTokensPerInput: LIMIT });
  await client.schema.apply();
});
afterAll(async () => {
  await client.close();
  await standin.close();
  await database.drop();
});

function open(openai: { maxTokensPerInput?: number }, maxBytes = 0): Client {
  return createClient({
    env: { DATABASE_URL: database.url, OPENAI_BASE_URL: standin.baseUrl },
    configFile: false,
    settings: { models: { openai }, cache: { maxBytes } },
  });
}

const sql = async <R extends Record<string, unknown>>(text: string, values: unknown[] = []): Promise<R[]> =>
  (await client.database()).query<R>(text, values);

let tables = 0;
/** A table of its own with these texts, keys from 1, and its source. */
async function source(texts: readonly string[], longTexts: LongTexts | undefined, more: object = {}): Promise<string> {
  const table = `doc_${++tables}`;
  await sql(`CREATE TABLE ${table} (id int PRIMARY KEY, body text)`);
  for (const [i, text] of texts.entries()) await sql(`INSERT INTO ${table} VALUES ($1, $2)`, [i + 1, text]);
  await client.sources.add({
    table,
    content: { columns: ['body'] },
    model: 'openai/long@16',
    index: 'none',
    ...(longTexts && { longTexts }),
    ...more,
  });
  return table;
}

const status = async (name: string) => (await client.status({ source: name, exact: true })).sources[0];
const vectorOf = async (table: string, id: number): Promise<number[] | null> => {
  const [row] = await sql<{ v: number[] | null }>(`SELECT embedding::real[] AS v FROM ${table} WHERE id = $1`, [id]);
  return row?.v ?? null;
};
/** Since the last call: texts that the provider was paid for. */
let seen = new Map<string, number>();
const paid = () => {
  const texts = [...standin.texts].filter(([text, times]) => times > (seen.get(text) ?? 0)).map(([text]) => text);
  seen = new Map(standin.texts);
  return texts.filter(
    (text) => text !== 'freshvec' && !text.startsWith('The quick brown') && !PROBE_TEXTS.includes(text),
  );
};
beforeEach(async () => {
  await client.workOnce();
  paid();
});

describe('refuse, the default', () => {
  test('sets the row aside, says the tokens, the limit and the choice, and does not ask for it', async () => {
    const table = await source([SHORT, LONG], undefined);
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 1 });
    const [failure, ...others] = await client.failures.list(table);
    expect(others).toEqual([]);
    expect(failure).toMatchObject({ key: 2, code: 'text_too_long' });
    expect(failure?.message).toMatch(/about 1\d\d tokens/);
    expect(failure?.message).toContain('at most 64 tokens');
    expect(failure?.message).toContain(`freshvec source alter ${table} --long-texts truncate`);
    expect(failure?.message).not.toContain('harbour');
    expect(paid().filter((text) => text.length > 4 * LIMIT)).toEqual([]);
    expect(standin.stats().rejected).toBe(0);
    expect(await status(table)).toMatchObject({ rows: 2, fresh: 1, stale: 0, failed: 1 });
    expect(await status(table)).not.toHaveProperty('longTexts');
    await expect(client.waitUntilFresh(table, 2)).rejects.toMatchObject({ reason: { code: 'text_too_long' } });
    await sql(`UPDATE ${table} SET body = 'shorter' WHERE id = 2`);
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 0 });
    expect(await client.failures.list(table)).toEqual([]);
  });

  test('keeps the vector of an earlier text, stale', async () => {
    const table = await source([SHORT], 'refuse');
    await client.workOnce();
    const before = await vectorOf(table, 1);
    await sql(`UPDATE ${table} SET body = $1 WHERE id = 1`, [LONG]);
    expect(await client.workOnce()).toMatchObject({ failed: 1 });
    expect(await vectorOf(table, 1)).toEqual(before);
    expect(await status(table)).toMatchObject({ fresh: 0, failed: 1 });
  });
});

describe.each(['column', 'table'] as const)('truncate (store %s)', (store) => {
  test('embeds the beginning, says so, and forgets it when the text is short again, or goes', async () => {
    const table = await source([SHORT, LONG, LONG, OTHER], 'truncate', { store });
    expect(await client.workOnce()).toMatchObject({ written: 4, failed: 0 });
    const beginnings = paid().filter((text) => text !== SHORT);
    expect(beginnings).toHaveLength(2); // Equal texts once.
    for (const text of beginnings) {
      expect([LONG, OTHER].some((long) => long.startsWith(text))).toBe(true);
      expect(text.length / 4).toBeGreaterThan(LIMIT * 0.85);
    }
    expect(await status(table)).toMatchObject({ fresh: 4, longTexts: { truncated: 3, chunked: 0 } });
    const listed = await client.sources.longTexts(table);
    expect(listed.map(({ key }) => key)).toEqual([2, 3, 4]);
    expect(listed[0]).toMatchObject({
      source: table,
      how: 'truncate',
      tokens: expect.any(Number),
      maxTokens: LIMIT,
      pieces: 1,
    });
    await sql(`UPDATE ${table} SET body = 'short again' WHERE id = 2`);
    await sql(`UPDATE ${table} SET body = '' WHERE id = 3`);
    await sql(`DELETE FROM ${table} WHERE id = 4`);
    await sweep(await client.database(), table);
    await client.workOnce();
    expect(await client.sources.longTexts(table)).toEqual([]);
    expect(await status(table)).not.toHaveProperty('longTexts');
  });
});

describe('chunk', () => {
  test('writes the mean of the pieces, weighted by tokens, of unit length', async () => {
    const table = await source([LONG], 'chunk');
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 0 });
    const pieces = paid();
    expect(pieces.sort((a, b) => LONG.indexOf(a) - LONG.indexOf(b)).length).toBeGreaterThan(1);
    const listed = await client.sources.longTexts(table);
    expect(listed).toMatchObject([{ key: 1, how: 'chunk', tokens: expect.any(Number), maxTokens: LIMIT }]);
    // Equal pieces are paid for once, and count each time.
    expect(listed[0]?.pieces).toBeGreaterThanOrEqual(pieces.length);
    const vector = (await vectorOf(table, 1)) ?? [];
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect(await status(table)).toMatchObject({ fresh: 1, longTexts: { truncated: 0, chunked: 1 } });
  });

  test('is the mean that it says', async () => {
    const exact = open({ maxTokensPerInput: 40 });
    try {
      const one = `${'first '.repeat(30)}.\n\n`;
      const two = `${'second '.repeat(11)}.`;
      const table = await source([one + two], 'chunk', { model: 'openai/text-embedding-3-small@16' });
      await exact.workOnce();
      expect(paid().sort()).toEqual([one, two].sort());
      const weights = [one, two].map((text) => encode(text).length);
      const sum = [one, two].reduce<number[]>(
        (total, text, i) => [...standinVector(text, 16)].map((x, d) => (total[d] ?? 0) + x * (weights[i] ?? 0)),
        [],
      );
      const vector = (await vectorOf(table, 1)) ?? [];
      for (const [d, x] of sum.entries()) expect(vector[d]).toBeCloseTo(x / Math.hypot(...sum), 5);
    } finally {
      await exact.close();
    }
  });
});

describe('another choice', () => {
  test('has refused texts tried again, discarded ones too, and nothing else', async () => {
    const table = await source([SHORT, LONG, OTHER], 'refuse');
    await client.workOnce();
    await client.failures.discard(table, [3]);
    paid();
    const plan = await client.sources.planAlter(table, { longTexts: 'truncate' });
    expect(plan.statements.every(({ lock }) => lock === 'none')).toBe(true);
    await client.sources.alter(table, { longTexts: 'truncate' });
    expect(await status(table)).toMatchObject({ fresh: 1, stale: 2, failed: 0 });
    expect(await client.workOnce()).toMatchObject({ claimed: 2, written: 2, failed: 0 });
    expect(paid()).not.toContain(SHORT);
    expect(await status(table)).toMatchObject({ fresh: 3, longTexts: { truncated: 2, chunked: 0 } });
    expect((await client.sources.show(table)).longTexts).toBe('truncate');
    expect((await client.sources.planAlter(table, { longTexts: 'truncate' })).statements).toEqual([]);
  });

  test.each(['column', 'table'] as const)('makes vectors of the other way stale at once (store %s)', async (store) => {
    const table = await source([SHORT, LONG], 'truncate', { store });
    await client.workOnce();
    await client.sources.alter(table, { longTexts: 'chunk' });
    expect(await status(table)).toMatchObject({ fresh: 1, stale: 1 });
    expect(await client.workOnce()).toMatchObject({ claimed: 1, written: 1 });
    expect(await status(table)).toMatchObject({ fresh: 2, longTexts: { truncated: 0, chunked: 1 } });
    // Whether a change told of it or not.
    await client.sources.alter(table, { longTexts: 'truncate' });
    await sql('DELETE FROM freshvec.change');
    expect(await status(table)).toMatchObject({ fresh: 1, stale: 1 });
    await sweep(await client.database(), table);
    expect(await client.workOnce()).toMatchObject({ written: 1 });
    expect(await status(table)).toMatchObject({ fresh: 2, longTexts: { truncated: 1, chunked: 0 } });
  });

  test.each(['column', 'table'] as const)(
    'takes partial vectors away when texts are refused from now on (%s)',
    async (store) => {
      const table = await source([SHORT, LONG], 'truncate', { store });
      await client.workOnce();
      await client.sources.alter(table, { longTexts: 'refuse' });
      expect(await client.workOnce()).toMatchObject({ written: 0, failed: 1 });
      expect(await status(table)).toMatchObject({ fresh: 1, stale: 0, failed: 1, spaces: [{ vectors: 1 }] });
      expect(await status(table)).not.toHaveProperty('longTexts');
      const { results } = await client.search(table, { text: LONG.slice(0, 200), k: 10 });
      expect(results.map(({ key }) => key)).toEqual([1]);
      await sweep(await client.database(), table);
      expect(await client.workOnce()).toMatchObject({ claimed: 0 });
    },
  );

  test('together with another content', async () => {
    const table = await source([SHORT, LONG], 'refuse');
    await client.workOnce();
    await client.sources.alter(table, { longTexts: 'chunk', content: { sql: `body || '!'` } });
    await client.workOnce();
    expect(await status(table)).toMatchObject({ fresh: 2, failed: 0, longTexts: { truncated: 0, chunked: 1 } });
  });

  test('is not undone by a worker from before', async () => {
    const table = await source([LONG], 'refuse');
    const db = await client.database();
    const before = await getSource(db, table);
    const [space] = (await client.sources.show(table)).spaces;
    const { openStore } = await import('../../src/store/index.js');
    const { vectorCodec } = await import('../../src/store/vector-codec.js');
    const extension = await db.vectorExtension();
    if (!space || !extension) throw new Error('no space');
    const store = openStore(before, { ...space, sourceId: before.id }, await vectorCodec(db, extension));
    const token = '00000000-0000-4000-8000-000000000001';
    await sql(
      `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since) VALUES ($1, '1', $2, now() + interval '1 h', now())`,
      [space.id, token],
    );
    await client.sources.alter(table, { longTexts: 'truncate' });
    const failure = { key: '1', end: 'fail', code: 'text_too_long', message: '', attempts: 1, hash: null } as const;
    expect([...(await settleRefused({ db, store }, token, [failure]))]).toEqual([['1', 'locked']]);
    expect(await client.failures.list(table)).toEqual([]);
    await sql(`UPDATE freshvec.lease SET expires_at = now() WHERE token = $1`, [token]);
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 0 });
    expect(await status(table)).toMatchObject({ fresh: 1, longTexts: { truncated: 1, chunked: 0 } });
  });

  test('a row that keeps its partial vector against the table or a trigger keeps nobody from theirs', async () => {
    const table = await source([LONG, LONG, OTHER], 'truncate');
    await client.workOnce();
    await sql(`ALTER TABLE ${table} ADD CHECK (id <> 1 OR length(body) < 100) NOT VALID`);
    await sql(`CREATE FUNCTION ${table}_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`);
    await sql(
      `CREATE TRIGGER keep BEFORE UPDATE ON ${table} FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION ${table}_keep()`,
    );
    await client.sources.alter(table, { longTexts: 'refuse' });
    await sql(`INSERT INTO ${table} VALUES (4, $1)`, [SHORT]);
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 3 });
    const failures = await client.failures.list(table);
    expect(failures.map(({ key, code }) => [key, code]).sort()).toEqual([
      [1, 'write_refused'],
      [2, 'write_refused'],
      [3, 'text_too_long'],
    ]);
    expect(await sql(`SELECT id FROM ${table} WHERE embedding IS NOT NULL ORDER BY id`)).toEqual([
      { id: 1 },
      { id: 2 },
      { id: 4 },
    ]);
    expect(await client.workOnce()).toMatchObject({ claimed: 0 });
  });

  test('must be one of three', async () => {
    const table = await source([SHORT], 'refuse');
    const wrong = 'cut' as LongTexts;
    await expect(client.sources.alter(table, { longTexts: wrong })).rejects.toThrow(/refuse, truncate or chunk/);
    const add = {
      table,
      name: 'again',
      content: { columns: ['body'] },
      model: 'fake/x@8',
      column: 'other',
      longTexts: wrong,
    };
    await expect(client.sources.plan(add)).rejects.toThrow(/refuse, truncate or chunk/);
    await expect(
      client.sources.plan({
        table,
        content: { columns: ['body'] },
        model: 'openai/long@16',
        index: 'none',
        longTexts: 'chunk',
      }),
    ).rejects.toThrow(/another choice for long texts/);
  });
});

test('a limit that only the provider knows is learned from its refusal', async () => {
  const unknowing = open({});
  try {
    for (const longTexts of ['refuse', 'truncate', 'chunk'] as const) {
      const table = await source([SHORT, LONG], longTexts);
      const report = await unknowing.workOnce();
      expect([longTexts, report]).toEqual([
        longTexts,
        expect.objectContaining(longTexts === 'refuse' ? { written: 1, failed: 1 } : { written: 2, failed: 0 }),
      ]);
      if (longTexts !== 'refuse') {
        expect(await unknowing.sources.longTexts(table)).toMatchObject([{ key: 2, how: longTexts, maxTokens: LIMIT }]);
      } else {
        expect((await unknowing.failures.list(table))[0]?.message).toContain('at most 64 tokens');
      }
    }
  } finally {
    await unknowing.close();
  }
});

test('the plan says what becomes of long texts, and of how many rows', async () => {
  await sql(`CREATE TABLE planned (id int PRIMARY KEY, body text)`);
  await sql(`INSERT INTO planned VALUES (1, $1), (2, $2), (3, $3)`, [SHORT, LONG, OTHER]);
  const definition = { table: 'planned', content: { columns: ['body'] }, index: 'none' } as const;
  const plan = await client.sources.plan({ ...definition, model: 'openai/long@16' });
  expect(plan).toMatchObject({ longRows: 2, maxTokensPerInput: LIMIT, source: { longTexts: 'refuse' } });
  const free = await client.sources.plan({ ...definition, model: 'static/mini@256', longTexts: 'chunk' });
  expect(free.longRows).toBe(0);
  expect(free).not.toHaveProperty('maxTokensPerInput');
});

test.each(['refuse', 'truncate', 'chunk'] as const)(
  'the bundled model takes texts of any length (%s)',
  async (longTexts) => {
    const table = await source([LONG.repeat(100)], longTexts, { model: 'static/mini@256' });
    expect(await client.workOnce()).toMatchObject({ written: 1, failed: 0 });
    expect(await status(table)).not.toHaveProperty('longTexts');
  },
);

test('the cache never gives a part for the whole, nor pays twice for the same way', async () => {
  // By a tokeniser, so that the same text is cut in the same place whenever.
  const model = 'openai/text-embedding-3-small@16';
  const caching = open({ maxTokensPerInput: 40 }, 10_000_000);
  try {
    const text = `Cached. ${LONG}`;
    const first = await source([text], 'truncate', { model });
    await caching.workOnce();
    expect(paid()).toHaveLength(1);
    // The same text, with another choice: nothing of it may come from the cache as the text's own vector.
    const second = await source([text], 'refuse', { model });
    expect(await caching.workOnce()).toMatchObject({ written: 0, failed: 1 });
    const third = await source([text], 'chunk', { model });
    await caching.workOnce();
    expect(paid().length).toBeGreaterThan(2);
    expect(await caching.sources.longTexts(third)).toMatchObject([{ how: 'chunk' }]);
    expect(await vectorOf(third, 1)).not.toEqual(await vectorOf(first, 1));
    // Once more the way it was before.
    await caching.sources.alter(second, { longTexts: 'truncate' });
    await caching.workOnce();
    expect(paid()).toEqual([]);
    expect(await vectorOf(second, 1)).toEqual(await vectorOf(first, 1));
    expect(await caching.sources.longTexts(second)).toMatchObject([{ how: 'truncate' }]);
    // Who erases the text erases its pieces.
    const { forgetHashes } = await import('../../src/embed/cache.js');
    const [row] = await sql<{ hash: string }>('SELECT freshvec.content_hash($1)::text AS hash', [text]);
    expect(await forgetHashes(await client.database(), [row?.hash ?? ''])).toBeGreaterThan(3);
    expect(await sql('SELECT 1 FROM freshvec.embedding_cache WHERE hash = $1', [row?.hash])).toEqual([]);
  } finally {
    await caching.close();
  }
});
