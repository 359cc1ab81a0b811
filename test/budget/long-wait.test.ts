import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, createClient } from '../../src/index.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { type Standin, startStandin } from '../support/standin/standin.js';

let database: TestDatabase;
let provider: Standin;
let client: Client;
beforeAll(async () => {
  [database, provider] = await Promise.all([freshDatabase(), startStandin({ dimensions: 8 })]);
  client = createClient({
    databaseUrl: database.url,
    env: {},
    configFile: false,
    settings: {
      models: { openai: { apiKey: 'sk-test', baseUrl: provider.baseUrl } },
      worker: { slots: 1, batchKeys: 10 },
      log: { level: 'silent' },
    },
    onError: () => {},
  });
  const db = await client.database();
  await db.exec(`CREATE TABLE notes (id int PRIMARY KEY, body text);
    INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 30) i`);
  await client.schema.apply();
  await client.sources.add({
    table: 'notes',
    content: { columns: ['body'] },
    model: 'openai/stand-in@8',
    index: 'none',
  });
});
afterAll(async () => {
  await client.close();
  await provider.close();
  await database.drop();
});

const status = async () => client.status({ exact: true });

test('a wait that the provider named is no longer than a quarter of an hour, and `resume` ends it', async () => {
  const db = await client.database();
  const fresh = async () => (await status()).sources[0]?.stale === 0;
  const stop = new AbortController();
  const working = client.work({ signal: stop.signal });
  try {
    await eventually(fresh, { what: 'the first load', timeoutMs: 30_000 });
    provider.set({ faults: [{ kind: 'rate_limited', retryAfterMs: 86_400_000 }] });
    await db.exec(`UPDATE notes SET body = body || ' edited'`);
    const waiting = async () =>
      (await db.query(`SELECT FROM freshvec.lease WHERE token IS NULL AND expires_at > now() + interval '5 min'`))
        .length;
    await eventually(async () => (await waiting()) > 0, { what: 'keys that wait', timeoutMs: 30_000 });
    const [resting] = (await status()).providers;
    expect(Date.parse(resting?.resumesAt ?? '')).toBeLessThan(Date.now() + 20 * 60_000);
    provider.set({ faults: [] });
    expect(await client.resume('notes')).toBe(true);
    await eventually(fresh, { what: 'the rows', timeoutMs: 30_000 });
    expect((await status()).providers).toEqual([]);
    expect(await client.resume('notes')).toBe(false);
  } finally {
    stop.abort();
    await working;
  }
});
