import { createHash } from 'node:crypto';
import { afterAll, expect, test } from 'vitest';
import { createClient, fromAiSdk } from '../../src/index.js';
import { embeddedDirectory, removeEmbedded } from '../support/embedded.js';

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

test('without it the spec is refused with what to do', async () => {
  const client = createClient({ embedded: directory, env: {}, configFile: false });
  try {
    await expect(client.embed('ai/hash@8', 'x')).rejects.toThrow(/fromAiSdk/);
  } finally {
    await client.close();
  }
});
