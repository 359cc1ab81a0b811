import { createHash } from 'node:crypto';
import { afterAll, expect, test } from 'vitest';
import { createClient, fromAiSdk } from '../../src/index.js';
import { freshDatabase } from '../support/database.js';
import { embeddedDirectory, removeEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';

const directory = embeddedDirectory();
afterAll(() => removeEmbedded(directory));

/** As the AI SDK's specification has them, without a provider behind it. */
const aiModel = {
  specificationVersion: 'v3',
  provider: 'test',
  modelId: 'hash',
  maxEmbeddingsPerCall: 10,
  supportsParallelCalls: true,
  async doEmbed({ values }: { values: string[] }) {
    const embeddings = values.map((text) => [...createHash('sha256').update(text).digest().subarray(0, 8)]);
    return { embeddings, usage: { tokens: values.length }, warnings: [] };
  },
} as const;

test('a model of the AI SDK embeds rows and queries of a client that was given it', async () => {
  const model = fromAiSdk(aiModel, { name: 'hash', dimensions: 8 });
  const client = createClient({ embedded: directory, models: [model], env: {}, configFile: false });
  try {
    const db = await client.database();
    await db.exec(
      `CREATE TABLE note (id int PRIMARY KEY, body text); INSERT INTO note SELECT i, 'text ' || i FROM generate_series(1, 25) i`,
    );
    await client.schema.apply();
    await client.sources.add({ table: 'note', content: { columns: ['body'] }, model: 'ai/hash@8' });
    expect(await client.workOnce()).toMatchObject({ written: 25, failed: 0, remaining: 0 });
    const { results } = await client.search('note', { text: 'text 7', k: 1 });
    expect(results).toMatchObject([{ key: 7, stale: false, model: model.fingerprint }]);
    expect(results[0]?.distance).toBeCloseTo(0, 5);
  } finally {
    await client.close();
  }
});

test('a process that has another model under that name does not search with it', async () => {
  const model = fromAiSdk(aiModel, { name: 'hash', dimensions: 8, revision: 'next' });
  const client = createClient({ embedded: directory, models: [model], env: {}, configFile: false });
  try {
    await expect(client.search('note', { text: 'text 7', k: 1 })).rejects.toMatchObject({ code: 'model_changed' });
  } finally {
    await client.close();
  }
});

test('without it the spec is refused with what to do', async () => {
  const client = createClient({ embedded: directory, env: {}, configFile: false });
  try {
    await expect(client.embed('ai/hash@8', 'x')).rejects.toThrow(/fromAiSdk/);
  } finally {
    await client.close();
  }
});

test('a worker without it leaves the source to those that have it', async () => {
  const database = await freshDatabase();
  const stop = new AbortController();
  const told: string[] = [];
  const model = fromAiSdk(aiModel, { name: 'hash', dimensions: 8 });
  const settings = { databaseUrl: database.url, env: {}, configFile: false } as const;
  const app = createClient({ ...settings, models: [model] });
  const others = [1, 2].map(() => createClient({ ...settings, onError: (error) => told.push(String(error)) }));
  const working: Promise<void>[] = [];
  try {
    const db = await app.database();
    await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text); INSERT INTO note VALUES (0, 'text 0')`);
    await app.schema.apply();
    await app.sources.add({ table: 'note', content: { columns: ['body'] }, model: 'ai/hash@8', index: 'none' });
    working.push(...others.map((other) => other.work({ signal: stop.signal })));
    await eventually(() => told.length >= 2, { what: 'both to say why they do nothing', timeoutMs: 40_000 });
    for (const why of told) expect(why).toContain('createClient({ models: [fromAiSdk(…)] })');
    expect(await db.query('SELECT FROM freshvec.pause')).toEqual([]);

    working.push(app.work({ signal: stop.signal }));
    for (let i = 1; i <= 10; i++) {
      await app.waitUntilFresh('note', i - 1, { timeoutMs: 40_000 });
      await db.query('INSERT INTO note VALUES ($1, $2)', [i, `text ${i}`]);
    }
    await app.waitUntilFresh('note', 10, { timeoutMs: 40_000 });
    expect(await db.query('SELECT FROM freshvec.pause')).toEqual([]);
    // They were woken again and again meanwhile, and rest; half a minute may have gone by, and another.
    expect(told.length).toBeLessThanOrEqual(6);

    // Somebody who asks for the work is told.
    stop.abort();
    await Promise.all(working);
    await db.query(`INSERT INTO note VALUES (11, 'text 11')`);
    await expect(others[0]?.workOnce()).rejects.toMatchObject({ code: 'embed_configuration' });
  } finally {
    stop.abort();
    await Promise.allSettled(working);
    await Promise.all([app, ...others].map((client) => client.close()));
    await database.drop();
  }
});
