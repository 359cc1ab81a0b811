import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { maskConfig } from '../../src/config/mask.js';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-config-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

let files = 0;

/** A file of another name each time: what was imported once stays imported. */
async function load(env: Record<string, string>, openai: object = {}) {
  const file = join(cwd, `settings-${files++}.json`);
  writeFileSync(file, JSON.stringify({ models: { openai } }));
  return loadConfig({ cwd, env, file });
}

const openaiOf = async (env: Record<string, string>, openai?: object) => (await load(env, openai)).models.openai;

test("Azure's version under both names, its own first", async () => {
  const both = { AZURE_OPENAI_API_VERSION: '2024-10-21', OPENAI_API_VERSION: '2023-05-15' };
  expect((await openaiOf(both)).azureApiVersion).toBe('2024-10-21');
  expect((await openaiOf({ OPENAI_API_VERSION: '2023-05-15' })).azureApiVersion).toBe('2023-05-15');
  expect((await openaiOf({}, { azureApiVersion: 'preview' })).azureApiVersion).toBe('preview');
});

test('limits from the environment and from the file', async () => {
  const env = {
    FRESHVEC_MAX_INPUTS: '32',
    FRESHVEC_MAX_TOKENS_PER_INPUT: '512',
    FRESHVEC_MAX_TOKENS_PER_REQUEST: '16384',
  };
  const limits = { maxInputs: 32, maxTokensPerInput: 512, maxTokensPerRequest: 16_384 };
  expect(await openaiOf(env)).toMatchObject(limits);
  expect(await openaiOf({}, limits)).toMatchObject(limits);
  await expect(openaiOf({ FRESHVEC_MAX_INPUTS: 'many' })).rejects.toThrow(/FRESHVEC_MAX_INPUTS/);
  await expect(openaiOf({}, { maxInputs: 0 })).rejects.toThrow(/models\.openai\.maxInputs/);
});

test('headers are read, and shown by name only', async () => {
  const headers = { 'X-Team': 'hunter2', Authorization: 'Bearer hunter2' };
  expect((await openaiOf({}, { headers })).headers).toEqual(headers);
  const shown = maskConfig(await load({}, { headers }));
  expect(shown.models.openai.headers).toEqual({ 'X-Team': '***', Authorization: '***' });
});

test.each([
  { headers: { 'X-Team': 'hunter2\nX-Other: 1' } },
  { headers: { 'no name': 'hunter2' } },
  { headers: { 'X-Team': ['hunter2'] } },
])('%j is refused, and the value is not told', async (openai) => {
  const error = await openaiOf({}, openai).catch((caught: unknown) => caught);
  expect(String(error)).toMatch(/models\.openai\.headers/);
  expect(String(error)).not.toContain('hunter2');
});
