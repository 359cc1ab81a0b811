import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EmbedError } from '../../src/embed/port.js';
import { type Client, createClient, fromAiSdk } from '../../src/index.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { instead } from '../support/instead.js';

/** As the AI SDK's specification has them, without a provider behind it. */
const aiModel = {
  specificationVersion: 'v3',
  provider: 'test',
  modelId: 'one',
  maxEmbeddingsPerCall: 10,
  supportsParallelCalls: true,
  async doEmbed({ values }: { values: string[] }) {
    return { embeddings: values.map((text) => [text.length, 1]), usage: { tokens: values.length }, warnings: [] };
  },
} as const;

const honest = fromAiSdk(aiModel, { name: 'next', dimensions: 2 });
/** Requests that are answered before the key is refused. */
let answered = Number.POSITIVE_INFINITY;
const model = instead(honest, {
  async embed(...request) {
    answered -= 1;
    if (answered < 0) throw new EmbedError('unauthorised', 'The provider refused the key (HTTP 401).', { status: 401 });
    return honest.embed(...request);
  },
});

let database: TestDatabase;
let client: Client;
beforeAll(async () => {
  database = await freshDatabase();
  client = createClient({
    databaseUrl: database.url,
    models: [model],
    env: {},
    configFile: false,
    settings: { worker: { slots: 1, batchKeys: 20 }, log: { level: 'silent' } },
  });
});
afterAll(async () => {
  await client.close();
  await database.drop();
});

test('work that fails in mid-backfill leaves no controller behind in a process that lives on', async () => {
  const db = await client.database();
  await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text);
    INSERT INTO note SELECT i, 'text ' || i FROM generate_series(1, 200) i`);
  await client.schema.apply();
  await client.sources.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await client.workOnce();
  await client.reembed.start(await client.reembed.plan('note', { model: 'ai/next@2', index: 'none' }));
  answered = 4;
  await expect(client.workOnce()).rejects.toMatchObject({ code: 'embed_unauthorised' });
  const controllers = () => db.query(`SELECT name FROM freshvec.singleton WHERE name LIKE 'reembed:%'`);
  expect(await controllers()).toEqual([]);
  // `xmin` is the transaction that wrote the row last: nobody records a share, a reason or a token any more.
  const written = () => db.query('SELECT m.xmin::text, m.state FROM freshvec.migration m');
  const before = await written();
  expect(before).toMatchObject([{ state: 'backfilling' }]);
  await sleep(2_000);
  expect(await written()).toEqual(before);

  // Mended, the next one goes on from there.
  answered = Number.POSITIVE_INFINITY;
  await db.query('DELETE FROM freshvec.pause');
  await client.workOnce();
  await eventually(async () => (await db.query('SELECT FROM freshvec.migration WHERE state = $1', ['ready'])).length, {
    what: 'the migration to be ready',
  });
});
