import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { pipeline } from '@huggingface/transformers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fingerprint, parseModelSpec } from '../../src/catalog/model.js';
import { loadConfig } from '../../src/config/load.js';
import { type OnnxSettings, openModel } from '../../src/embed/open.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import { findFolder, readOnnxFiles } from '../../src/embed/providers/onnx-files.js';
import { download, importTransformers } from '../../src/embed/providers/onnx-peer.js';

const FOLDER = fileURLToPath(new URL('../../../shared/models/minilm-onnx', import.meta.url));
const SPEC = 'onnx/minilm@384';
const purpose = 'document' as const;
const TEXTS = [
  'A row whose text changed is stale until a worker has embedded it again.',
  'cat',
  `Postgres index bloat. ${'An index grows with every update that is not HOT. '.repeat(40)}`,
  '',
  'How do I rebuild an HNSW index without blocking writes?',
  `${'word '.repeat(200)}`,
  'naïve café – 日本語 emoji 🙂',
];

const open = new Set<EmbeddingModel>();
/** Every thread that was started, the last one last. */
const threads: Worker[] = [];
const remember = (worker: Worker) => threads.push(worker);
const folders: string[] = [];

async function openOnnx(onnx: OnnxSettings = {}, spec = SPEC): Promise<EmbeddingModel> {
  const model = await openModel(spec, { onnx: { path: FOLDER, ...onnx }, requestTimeoutMs: 1000 });
  open.add(model);
  return model;
}

/** One for all tests that leave it as it was. */
let common: Promise<EmbeddingModel> | undefined;
function shared(): Promise<EmbeddingModel> {
  common ??= openModel(SPEC, { onnx: { path: FOLDER }, requestTimeoutMs: 1000 });
  return common;
}

async function temporary(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'freshvec-'));
  folders.push(folder);
  return folder;
}

/** A folder like the model's, in which files may be added and changed; the weights are the same file. */
async function copyOfModel(): Promise<string> {
  const folder = await temporary();
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    await writeFile(join(folder, file), await readFile(join(FOLDER, file)));
  }
  await mkdir(join(folder, 'onnx'));
  await symlink(join(FOLDER, 'onnx/model_quantized.onnx'), join(folder, 'onnx/model_quantized.onnx'));
  return folder;
}

function cosine(a: ArrayLike<number> | undefined, b: ArrayLike<number> | undefined): number {
  if (!a || !b || a.length !== b.length) return Number.NaN;
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

beforeAll(() => {
  process.on('worker', remember);
});

afterEach(async () => {
  for (const model of open) await model.close();
  open.clear();
});

afterAll(async () => {
  process.removeListener('worker', remember);
  await (await common)?.close();
  for (const folder of folders) await rm(folder, { recursive: true });
});

describe.skipIf(!existsSync(FOLDER))(`a model in a thread (skipped without ${FOLDER})`, () => {
  it('is as near to the reference vectors as its 8 bits let it be', async () => {
    const cases: { text: string; embedding: number[] }[] = JSON.parse(
      readFileSync(join(FOLDER, 'expected.json'), 'utf8'),
    );
    const model = await shared();
    for (const { text, embedding } of cases) {
      const { vectors } = await model.embed([text], { purpose });
      // transformers.js's own pipeline comes to 0.945 to 0.968 on these; see the next test.
      expect(cosine(vectors[0], embedding), text).toBeGreaterThan(0.94);
    }
  });

  it('gives what the pipeline of transformers.js gives', async () => {
    const reference = await pipeline('feature-extraction', FOLDER, { dtype: 'q8', local_files_only: true });
    const model = await shared();
    for (const text of TEXTS.filter((one) => one !== '')) {
      const { vectors } = await model.embed([text], { purpose });
      const { data } = await reference(text, { pooling: 'mean', normalize: true });
      expect(cosine(vectors[0], data as Float32Array), text).toBeGreaterThan(0.999);
    }
    // Texts of one length and few enough make one inference here too.
    const batch = ['cat sat', 'dog ran', 'two mice', 'big cow'];
    const { vectors } = await model.embed(batch, { purpose });
    const { data } = await reference(batch, { pooling: 'mean', normalize: true });
    batch.forEach((text, i) => {
      const theirs = (data as Float32Array).subarray(i * 384, (i + 1) * 384);
      expect(cosine(vectors[i], theirs), text).toBeGreaterThan(0.9999);
    });
    await reference.dispose();
  });

  it('keeps the order of texts of mixed length', async () => {
    const model = await shared();
    const alone: Float32Array[] = [];
    for (const text of TEXTS) alone.push(...(await model.embed([text], { purpose })).vectors);
    const { vectors, tokens } = await model.embed(TEXTS, { purpose });
    expect(vectors).toHaveLength(TEXTS.length);
    vectors.forEach((vector, i) => {
      expect(vector).toBeInstanceOf(Float32Array);
      const similar = alone.map((one) => cosine(vector, one));
      expect(similar.indexOf(Math.max(...similar))).toBe(i);
      // The int8 weights scale by the largest activation of a batch, so company changes a vector a little.
      expect(similar[i]).toBeGreaterThan(0.97);
      expect(cosine(vector, vector)).toBeCloseTo(1, 5);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    });
    expect(tokens).toBe(TEXTS.reduce((sum, text) => sum + model.countTokens(text), 0));
  });

  it('counts tokens as the model does, and cuts where it does', async () => {
    const model = await shared();
    expect(model.countTokens('')).toBe(2);
    expect(model.countTokens('The cat sat on the mat')).toBe(8);
    expect(model.countTokens('embedding '.repeat(100_000))).toBe(512);
    expect(model.limits).toMatchObject({ maxTokensPerInput: 512, likeLengths: true });
    const { vectors, tokens } = await model.embed([`${'cat '.repeat(510)}`, `${'cat '.repeat(9999)}`], { purpose });
    expect(tokens).toBe(1024);
    expect(cosine(vectors[0], vectors[1])).toBeGreaterThan(0.9999);
  });

  it('leaves the event loop to others', async () => {
    const model = await shared();
    let ticks = 0;
    const interval = setInterval(() => ticks++, 1);
    await model.embed(
      Array.from({ length: 100 }, (_, i) => `${i} ${TEXTS[0]}`),
      { purpose },
    );
    clearInterval(interval);
    expect(ticks).toBeGreaterThan(10);
  });

  it('stops between inferences when told to, and goes on with the next request', async () => {
    const model = await shared();
    const controller = new AbortController();
    const reason = new Error('enough');
    const long = (count: number) => Array.from({ length: count }, () => TEXTS[2] as string);
    const work = model.embed(long(16), { purpose, signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    await expect(work).rejects.toBe(reason);
    await expect(model.embed(['x'], { purpose, signal: controller.signal })).rejects.toBe(reason);
    const answers: unknown[] = [];
    const listen = (message: unknown) => answers.push(message);
    threads.at(-1)?.on('message', listen);
    // Inferences of several requests go in turns: the first would be through long before the second.
    expect((await model.embed(long(32), { purpose })).vectors).toHaveLength(32);
    threads.at(-1)?.removeListener('message', listen);
    expect(answers).toHaveLength(1);
  });

  it('serves a query between the inferences of a large request', async () => {
    const model = await shared();
    const done: string[] = [];
    const large = model.embed(
      Array.from({ length: 20 }, () => TEXTS[2] as string),
      { purpose },
    );
    const both = [
      large.then(() => done.push('large')),
      model.embed(['cat'], { purpose: 'query' }).then(() => done.push('query')),
    ];
    await Promise.all(both);
    expect(done).toEqual(['query', 'large']);
  });

  it('says the right dimensions, and the dtypes that are there', async () => {
    await expect(openOnnx({}, 'onnx/minilm@256')).rejects.toMatchObject({
      failure: 'configuration',
      message: expect.stringContaining('write onnx/minilm@384'),
    });
    await expect(openOnnx({ dtype: 'fp32' })).rejects.toMatchObject({
      failure: 'configuration',
      message: expect.stringMatching(/dtype fp32: it has q8$/),
    });
  });

  it('says where it looked, and downloads nothing unless allowed to', async () => {
    const path = await temporary();
    await expect(openOnnx({ path })).rejects.toMatchObject({
      failure: 'configuration',
      message: expect.stringMatching(/onnx\/minilm is not in .*FRESHVEC_ONNX_PATH.*allowDownload/),
    });
    await expect(openOnnx({ path: undefined }, 'onnx/nobody/nothing@3')).rejects.toMatchObject({
      failure: 'configuration',
      message: expect.stringContaining('.cache'),
    });
    for (const name of ['../minilm', 'a/../../b', '/etc', 'a//b']) {
      await expect(openOnnx({ path }, `onnx/${name}@384`)).rejects.toMatchObject({
        message: expect.stringContaining('names no model'),
      });
    }
  });

  it('finds a model by its name below the folder', async () => {
    const model = await openOnnx({ path: join(FOLDER, '..') }, 'onnx/minilm-onnx@384');
    expect((await model.embed(['cat'], { purpose })).vectors[0]).toHaveLength(384);
  });

  it('puts prefixes before queries and documents, and does not scale unless asked to', async () => {
    const model = await openOnnx({ queryPrefix: 'query: ', documentPrefix: 'passage: ' });
    const plain = await openOnnx({ normalise: false });
    const one = async (from: EmbeddingModel, text: string, what: 'query' | 'document') =>
      (await from.embed([text], { purpose: what })).vectors[0];
    expect(cosine(await one(model, 'cat', 'query'), await one(plain, 'query: cat', 'document'))).toBeCloseTo(1, 5);
    expect(cosine(await one(model, 'cat', 'document'), await one(plain, 'passage: cat', 'query'))).toBeCloseTo(1, 5);
    expect(model.countTokens('cat')).toBe(plain.countTokens('passage: cat'));
    expect(Math.hypot(...((await one(plain, 'cat', 'query')) ?? []))).not.toBeCloseTo(1, 2);
  });

  it('pools as asked, and has a fingerprint of all that changes its vectors', async () => {
    const model = await shared();
    const spec = parseModelSpec(SPEC);
    const traits = { revision: 'r', normalised: true, dtype: 'q8', pooling: 'mean', maxTokens: 512 };
    const others = [{ dtype: 'fp32' }, { maxTokens: 256 }, { pooling: 'cls' }, { prefix: 'a' }, { queryPrefix: 'a' }];
    const prints = [{}, ...others].map((other) => fingerprint(spec, { ...traits, ...other }));
    expect(new Set(prints).size).toBe(prints.length);
    const [mean] = (await model.embed(['The cat sat on the mat'], { purpose })).vectors;
    const seen = [{ print: model.fingerprint, vector: mean }];
    for (const pooling of ['cls', 'last_token'] as const) {
      const other = await openOnnx({ pooling });
      const [vector] = (await other.embed(['The cat sat on the mat'], { purpose })).vectors;
      for (const before of seen) {
        expect(other.fingerprint).not.toBe(before.print);
        expect(cosine(vector, before.vector)).toBeLessThan(0.95);
      }
      seen.push({ print: other.fingerprint, vector });
    }
  });

  it('has the same fingerprint wherever its files are, and another when they change', async () => {
    const folder = await copyOfModel();
    const print = (await shared()).fingerprint;
    expect((await openOnnx({ path: folder, threads: 1, pooling: 'mean', dtype: 'q8' })).fingerprint).toBe(print);
    await writeFile(join(folder, 'tokenizer.json'), `${await readFile(join(folder, 'tokenizer.json'), 'utf8')}\n`);
    expect((await openOnnx({ path: folder })).fingerprint).not.toBe(print);
  });

  describe('its thread', () => {
    const exits = (worker: Worker | undefined) => new Promise((resolve) => worker?.once('exit', resolve));

    it('ends with close, which fails what still waits', async () => {
      const model = await openOnnx();
      const ended = exits(threads.at(-1));
      const work = model.embed(
        Array.from({ length: 100 }, () => TEXTS[2] as string),
        { purpose },
      );
      const failed = expect(work).rejects.toMatchObject({ failure: 'unavailable' });
      await model.close();
      await ended;
      await failed;
      await expect(model.embed(['x'], { purpose })).rejects.toMatchObject({ failure: 'unavailable' });
      await model.close();
    });

    it('may die: requests get no good answer, the next one starts another', async () => {
      const model = await openOnnx();
      const before = threads.length;
      const ended = exits(threads.at(-1));
      // In this order: a thread that is ended inside an inference would take the test down with it, see onnx-gate.
      const dying = threads.at(-1)?.terminate();
      const failed = expect(model.embed(['x'], { purpose })).rejects.toMatchObject({ failure: 'bad_response' });
      await dying;
      await ended;
      await failed;
      expect((await model.embed(['cat'], { purpose })).vectors).toHaveLength(1);
      expect(threads.length).toBe(before + 1);
    });

    it('is waited for when the process ends in the middle of an inference', async () => {
      const hooks = new URL('../support/ts-threads.mjs', import.meta.url).href;
      const source = new URL('../../src/embed/open.ts', import.meta.url).href;
      const code = `
        import { register } from 'node:module';
        register('${hooks}?hooks');
        const { openModel } = await import('${source}');
        const model = await openModel('${SPEC}', { requestTimeoutMs: 1, onnx: { path: ${JSON.stringify(FOLDER)} } });
        model.embed(Array(200).fill('word '.repeat(500)), { purpose: 'document' });
        setTimeout(() => process.exit(7), 200);`;
      const script = join(await temporary(), 'ends.mjs');
      await writeFile(script, code);
      const end = await new Promise<unknown>((resolve) => {
        execFile(process.execPath, ['--import', hooks, script], (error) => resolve(error?.signal ?? error?.code));
      });
      expect(end).toBe(7);
    });
  });

  it('takes pooling, prompts and length from the files of sentence-transformers', async () => {
    const folder = await copyOfModel();
    expect(await readOnnxFiles(folder, {})).toMatchObject({ pooling: 'mean', maxTokens: 512, queryPrefix: '' });
    await mkdir(join(folder, '1_Pooling'));
    await writeFile(join(folder, '1_Pooling/config.json'), '{"pooling_mode_cls_token":true}');
    await writeFile(join(folder, 'sentence_bert_config.json'), '{"max_seq_length":256}');
    const prompts = { prompts: { query: 'query: ', passage: 'passage: ' } };
    await writeFile(join(folder, 'config_sentence_transformers.json'), JSON.stringify(prompts));
    const said = { pooling: 'cls', maxTokens: 256, queryPrefix: 'query: ', documentPrefix: 'passage: ', dtype: 'q8' };
    expect(await readOnnxFiles(folder, {})).toMatchObject(said);
    expect(await readOnnxFiles(folder, { pooling: 'mean', queryPrefix: '' })).toMatchObject({
      pooling: 'mean',
      queryPrefix: '',
    });
    await writeFile(
      join(folder, 'config.json'),
      '{"model_type":"xlm-roberta","max_position_embeddings":130,"pad_token_id":1}',
    );
    expect(await readOnnxFiles(folder, {})).toMatchObject({ maxTokens: 128, padTokenId: 1 });
    await rm(join(folder, 'tokenizer.json'));
    await expect(readOnnxFiles(folder, {})).rejects.toMatchObject({ failure: 'configuration' });
  });

  it('comes from the hub when that is allowed', async () => {
    const transformers = await importTransformers();
    const asked: string[] = [];
    const server = createServer(async (request, response) => {
      const [, file] = /^\/someone\/minilm\/resolve\/main\/(.+)$/.exec(request.url ?? '') ?? [];
      asked.push(file ?? request.url ?? '');
      const bytes = file === undefined ? undefined : await readFile(join(FOLDER, file)).catch(() => undefined);
      response.writeHead(bytes ? 200 : 404, bytes ? { 'content-length': bytes.length } : {});
      response.end(request.method === 'HEAD' ? undefined : bytes);
    });
    const { env } = transformers;
    const before = { remoteHost: env.remoteHost, allowRemoteModels: env.allowRemoteModels };
    try {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      env.remoteHost = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      const path = await temporary();
      await download(transformers, 'someone/minilm', path);
      expect(findFolder(path, 'someone/minilm')).toBe(join(path, 'someone/minilm'));
      expect(asked).toContain('1_Pooling/config.json');
      const model = await openOnnx({ path }, 'onnx/someone/minilm@384');
      expect((await model.embed(['cat'], { purpose })).vectors).toHaveLength(1);
      await expect(download(transformers, 'someone/else', path)).rejects.toMatchObject({ failure: 'configuration' });
      await new Promise((resolve) => server.close(resolve));
      await expect(download(transformers, 'someone/third', path)).rejects.toMatchObject({ failure: 'unavailable' });
    } finally {
      Object.assign(env, before);
      server.close();
    }
  });
});

describe('what surrounds it', () => {
  it('names the package to install', async () => {
    await expect(importTransformers('@huggingface/not-there')).rejects.toMatchObject({
      failure: 'configuration',
      message: 'run: npm install @huggingface/not-there',
    });
  });

  it('is read from the environment and from flags, its path made absolute', async () => {
    const env = { FRESHVEC_ONNX_PATH: 'models' };
    const config = await loadConfig({ cwd: '/here', env, flags: { models: { onnx: { threads: 2 } } }, file: false });
    expect(config.models.onnx).toEqual({ path: '/here/models', threads: 2 });
    const flags = { models: { onnx: { pooling: 'sum' } } } as never;
    await expect(loadConfig({ env: {}, flags, file: false })).rejects.toThrow(/pooling/);
  });

  it('has specs like any other provider, and leaves other fingerprints as they are', () => {
    expect(parseModelSpec('onnx/Xenova/all-MiniLM-L6-v2@384')).toMatchObject({
      provider: 'onnx',
      name: 'Xenova/all-MiniLM-L6-v2',
    });
    expect(() => parseModelSpec('onx/a@3')).toThrow(/onnx\/NAME@DIMENSIONS/);
    const other = parseModelSpec('openai/BAAI/bge-m3@1024');
    expect(fingerprint(other, { revision: '', normalised: false })).toBe('openai/BAAI/bge-m3@1024#50bf1a47');
  });
});
