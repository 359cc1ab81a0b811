import { EmbedError } from '../port.js';
import type { OnnxSettings } from '../settings.js';
import { planInferences } from './onnx-batches.js';
import { findFolder, type OnnxFiles, readOnnxFiles, readTokenizerFiles } from './onnx-files.js';
import { GateShut, throughGate } from './onnx-gate.js';
import { download, importTransformers, type Transformers } from './onnx-peer.js';
import { pool, type TokenVectors } from './onnx-pool.js';
import { createEncode, type Encode } from './onnx-tokens.js';

/** What the thread is started with. */
export interface EngineOptions {
  readonly name: string;
  readonly settings: OnnxSettings;
  readonly threads: number;
  readonly gate: SharedArrayBuffer;
}

/** What the thread finds out. */
export interface EngineInfo extends OnnxFiles {
  readonly dimensions: number;
  /** Tokens that each document has besides its own: special ones and the prefix's. */
  readonly extraTokens: number;
}

export interface EngineResult {
  /** Row-major, texts × dimensions. */
  readonly vectors: Float32Array<ArrayBuffer>;
  /** Padding not counted. */
  readonly tokens: number;
}

type Model = Awaited<ReturnType<Transformers['AutoModel']['from_pretrained']>>;

/** A model in memory: texts to vectors, inference by inference. Lives in a thread, since each inference blocks it. */
export class OnnxEngine {
  /** Ends when the last inference does: they go one at a time, those of several requests in turns. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly transformers: Transformers,
    private readonly model: Model,
    private readonly encode: Encode,
    private readonly options: EngineOptions,
    readonly info: EngineInfo,
  ) {}

  /** Throws EmbedError `configuration`, or `unavailable` where a download failed. */
  static async open(options: EngineOptions): Promise<OnnxEngine> {
    const { name, settings, threads, gate } = options;
    const transformers = await importTransformers();
    const folder = await locate(transformers, name, settings);
    const files = await readOnnxFiles(folder, settings);
    const encode = createEncode(await readTokenizerFiles(folder), files.maxTokens);
    const load = transformers.AutoModel.from_pretrained.bind(transformers.AutoModel);
    const model = await throughGate(gate, () =>
      load(folder, {
        dtype: files.dtype,
        device: 'cpu',
        local_files_only: true,
        session_options: { intraOpNumThreads: threads },
      }),
    ).catch((error: unknown) => {
      throw configuration(`${folder} cannot be loaded`, error);
    });
    const extraTokens = encode(files.documentPrefix).length;
    const trial = new OnnxEngine(transformers, model, encode, options, { ...files, extraTokens, dimensions: 0 });
    const { dimensions } = await trial.infer([trial.encode('a')]).catch((error: unknown) => {
      throw configuration(`${folder} cannot be run`, error);
    });
    return new OnnxEngine(transformers, model, encode, options, { ...files, extraTokens, dimensions });
  }

  /**
   * Vectors of the texts, in their order. Looks at `cancelled` between inferences and then gives up (undefined).
   * Throws EmbedError `input_rejected` where the texts are to blame, `bad_response` where memory is short.
   */
  async embed(texts: readonly string[], cancelled: () => boolean): Promise<EngineResult | undefined> {
    const { dimensions, pooling } = this.info;
    const how = { pooling, normalise: this.options.settings.normalise ?? true };
    const ids = texts.map((text) => this.encode(text));
    if (ids.some((one) => one.length === 0)) {
      throw new EmbedError('input_rejected', `the text has no token that onnx/${this.options.name} knows`);
    }
    const vectors = new Float32Array(texts.length * dimensions);
    const batches = planInferences(ids.map((one) => one.length));
    const begin = (batch: readonly number[] | undefined) => {
      const hidden = batch && this.infer(batch.map((index) => ids[index] as number[]));
      hidden?.catch(() => {}); // Seen where it is awaited, if the one before does not fail.
      return hidden;
    };
    let hidden = begin(batches[0]);
    for (const [i, batch] of batches.entries()) {
      if (cancelled()) return undefined;
      // The next one is under way while this one's vectors are summed up.
      const next = begin(batches[i + 1]);
      const done = (await hidden) as TokenVectors;
      hidden = next;
      batch.forEach((index, row) => {
        const out = vectors.subarray(index * dimensions, (index + 1) * dimensions);
        pool(done, row, (ids[index] as number[]).length, how, out);
      });
    }
    return { vectors, tokens: ids.reduce((sum, one) => sum + one.length, 0) };
  }

  async close(): Promise<void> {
    await this.last.catch(() => {});
    await this.model.dispose();
  }

  private infer(ids: readonly number[][]): Promise<TokenVectors> {
    const run = () => throughGate(this.options.gate, () => this.run(ids)).catch((error: unknown) => rethrow(error));
    const result = this.last.then(run, run);
    this.last = result;
    return result;
  }

  private async run(ids: readonly number[][]): Promise<TokenVectors> {
    const width = Math.max(...ids.map((one) => one.length));
    const dims = [ids.length, width];
    const tokens = new BigInt64Array(ids.length * width).fill(BigInt(this.info.padTokenId));
    const mask = new BigInt64Array(tokens.length);
    ids.forEach((one, row) => {
      one.forEach((id, i) => {
        tokens[row * width + i] = BigInt(id);
      });
      mask.fill(1n, row * width, row * width + one.length);
    });
    const { Tensor } = this.transformers;
    const outputs: Record<string, { dims: number[]; type: string; data: unknown } | undefined> = await this.model({
      input_ids: new Tensor('int64', tokens, dims),
      attention_mask: new Tensor('int64', mask, dims),
      token_type_ids: new Tensor('int64', new BigInt64Array(tokens.length), dims),
    });
    const hidden = outputs.last_hidden_state ?? outputs.token_embeddings;
    const dimensions = hidden?.dims[2];
    if (!(hidden?.data instanceof Float32Array) || dimensions === undefined) {
      throw new TypeError(`the model gives no float32 vectors per token, but ${Object.keys(outputs).join(', ')}`);
    }
    return { data: hidden.data, width, dimensions };
  }
}

async function locate(transformers: Transformers, name: string, settings: OnnxSettings): Promise<string> {
  const root = settings.path ?? transformers.env.cacheDir ?? '.';
  const found = findFolder(root, name);
  if (found !== undefined) return found;
  if (settings.allowDownload !== true) {
    throw configuration(
      `onnx/${name} is not in ${root}: name the folder that holds it (models.onnx.path or FRESHVEC_ONNX_PATH), ` +
        'or allow its download (models.onnx.allowDownload)',
    );
  }
  await download(transformers, name, root, settings.dtype);
  return `${root}/${name}`;
}

/** What goes wrong inside the runtime goes wrong again with the same texts; where memory is short, with fewer it may not. */
function rethrow(error: unknown): never {
  if (error instanceof GateShut) throw new EmbedError('unavailable', 'the model is being closed');
  const message = error instanceof Error ? error.message : String(error);
  const failure = /alloc|memory/i.test(message) ? 'bad_response' : 'input_rejected';
  // It may name token ids, in which the text can be read.
  const said = message.replace(/\d{2,}/g, '#').slice(0, 200);
  throw Object.assign(new EmbedError(failure, `the ONNX runtime failed: ${said}`), { cause: error });
}

function configuration(what: string, cause?: unknown): EmbedError {
  const why = cause instanceof Error ? `: ${cause.message}` : '';
  return Object.assign(new EmbedError('configuration', `${what}${why}`), { cause });
}
