import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openModel } from '../../src/embed/open.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import type { OpenAISettings } from '../../src/embed/settings.js';
import { type Standin, startStandin } from '../support/standin/standin.js';

const KEY = 'azure-secret-key';
const SPEC = 'openai/text-embedding-3-small@64';
const purpose = 'document' as const;

let standin: Standin;
beforeEach(async () => {
  standin = await startStandin();
});
afterEach(() => standin.close());

const open = (openai: OpenAISettings, spec = SPEC): Promise<EmbeddingModel> =>
  openModel(spec, { openai, requestTimeoutMs: 5000 });

/** Embeds one text and tells what arrived. `path` stands for the stand-in's own host. */
async function sent(path: string, settings: OpenAISettings, spec = SPEC) {
  const model = await open({ baseUrl: new URL(path, standin.baseUrl).href, ...settings }, spec);
  await model.embed(['a'], { purpose });
  return { url: standin.last?.url, headers: standin.last?.headers ?? {} };
}

describe("Azure's URLs", () => {
  const azureApiVersion = '2024-10-21';
  const deployed = '/openai/deployments/emb/embeddings?api-version=2024-10-21';

  it.each([
    ['a deployment', '/openai/deployments/emb', azureApiVersion, deployed],
    ['with a slash', '/openai/deployments/emb/', azureApiVersion, deployed],
    ['as the portal shows it', '/openai/deployments/emb/embeddings?api-version=2024-10-21', undefined, deployed],
    ['a setting wins over the query', '/openai/deployments/emb?api-version=2023-05-15', azureApiVersion, deployed],
    [
      'the resource alone',
      '/',
      azureApiVersion,
      '/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21',
    ],
    [
      'the resource with /openai',
      '/openai',
      azureApiVersion,
      '/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21',
    ],
    ['v1 with a version', '/openai/v1', 'preview', '/openai/v1/embeddings?api-version=preview'],
  ])('%s', async (_, path, version, url) => {
    const arrived = await sent(path, { apiKey: KEY, azureApiVersion: version });
    expect(arrived.url).toBe(url);
    expect(arrived.headers['api-key']).toBe(KEY);
    expect(arrived.headers).not.toHaveProperty('authorization');
  });

  it('v1 without a version takes the key as a bearer, or in a header of its own', async () => {
    const bearer = await sent('/openai/v1/', { apiKey: KEY });
    expect([bearer.url, bearer.headers.authorization]).toEqual(['/openai/v1/embeddings', `Bearer ${KEY}`]);
    expect(bearer.headers).not.toHaveProperty('api-key');
    const header = await sent('/openai/v1', { headers: { 'api-key': KEY } });
    expect(header.headers['api-key']).toBe(KEY);
    expect(header.headers).not.toHaveProperty('authorization');
  });

  it('a token of Entra takes the place of the key', async () => {
    const headers = { Authorization: 'Bearer token' };
    const arrived = await sent('/openai/deployments/emb', { azureApiVersion, headers });
    expect(arrived.headers.authorization).toBe('Bearer token');
  });

  it.each([
    ['a version without a server', { apiKey: KEY, azureApiVersion }, /OPENAI_BASE_URL/],
    [
      'a deployment without a version',
      { apiKey: KEY, baseUrl: 'https://me.openai.azure.com/openai/deployments/emb' },
      /AZURE_OPENAI_API_VERSION/,
    ],
  ])('%s is refused', async (_, settings, message) => {
    await expect(open(settings)).rejects.toMatchObject({
      failure: 'configuration',
      message: expect.stringMatching(message),
    });
  });

  it('leaves the fingerprint as it is', async () => {
    const azure = await open({ apiKey: KEY, baseUrl: 'https://me.openai.azure.com', azureApiVersion });
    expect(azure.fingerprint).toBe((await open({ apiKey: KEY })).fingerprint);
  });
});

describe('what is sent along', () => {
  it('organization, project and extra headers; an extra one wins', async () => {
    const headers = { 'X-Team': 'search', authorization: 'Basic abc' };
    const arrived = await sent('/v1', { apiKey: KEY, organization: 'org-1', project: 'proj-1', headers });
    expect(arrived.headers).toMatchObject({
      'openai-organization': 'org-1',
      'openai-project': 'proj-1',
      'x-team': 'search',
      authorization: 'Basic abc',
    });
  });

  it('other parameters of the base URL', async () => {
    expect((await sent('/v1?team=search', { apiKey: KEY })).url).toBe('/v1/embeddings?team=search');
  });

  it.each([
    { apiKey: 'sk-secret\nnewline' },
    { apiKey: 'sk-secret“quoted”' },
    { apiKey: KEY, headers: { 'x-a': 'secret\r\nx-b: c' } },
    { apiKey: KEY, headers: { 'not a name': 'secret' } },
    { apiKey: KEY, organization: 'secret ☃' },
  ])('%j cannot be sent, and is not told', async (settings) => {
    const error: unknown = await open(settings).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ failure: 'configuration' });
    expect(`${error} ${(error as Error).stack} ${(error as Error).cause}`).not.toContain('secret');
  });
});

describe('the account', () => {
  const account = async (settings: OpenAISettings, spec = SPEC) =>
    (await open({ apiKey: KEY, ...settings }, spec)).account;

  it('is that of base URL, key, organization and project, whatever the model', async () => {
    const own = await account({});
    expect(own).toMatch(/^[0-9a-f]{16}$/);
    expect(await account({}, 'openai/text-embedding-3-large@64')).toBe(own);
    expect(await account({ baseUrl: 'https://api.openai.com/v1/' })).toBe(own);
    const others = await Promise.all([
      account({ apiKey: 'another' }),
      account({ baseUrl: 'http://127.0.0.1:1/v1' }),
      account({ organization: 'a' }),
      account({ project: 'a' }),
      account({ apiKey: undefined, headers: { 'api-key': 'k1' } }),
      account({ apiKey: undefined, headers: { 'api-key': 'k2' } }),
    ]);
    expect(new Set([own, ...others]).size).toBe(7);
  });
});

describe('limits', () => {
  it("are OpenAI's unless given", async () => {
    expect((await open({ apiKey: KEY })).limits).toEqual({
      maxInputs: 2048,
      maxTokensPerInput: 8191,
      maxTokensPerRequest: 300_000,
    });
    const tei = { maxInputs: 32, maxTokensPerInput: 512, maxTokensPerRequest: 16_384 };
    expect((await open({ apiKey: KEY, ...tei })).limits).toEqual(tei);
  });
});

describe('counting', () => {
  it("is exact for OpenAI's own models, and learns for others", async () => {
    const own = await open({ apiKey: KEY });
    const other = await open({ apiKey: KEY, baseUrl: standin.baseUrl }, 'openai/bge@64');
    const text = 'The quick brown fox jumps over the lazy dog.';
    expect(own.countTokens(text)).toBe(10);
    expect(other.countTokens(text)).toBe(11);
    await standin.close();
    standin = await startStandin({ bytesPerToken: 2 });
    const dense = await open({ apiKey: KEY, baseUrl: standin.baseUrl }, 'openai/bge@64');
    await dense.embed([text], { purpose });
    expect(dense.countTokens(text)).toBe(22);
  });
});
