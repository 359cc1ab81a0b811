import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { EmbedError } from '../port.js';
import type { OnnxDtype, OnnxPooling, OnnxSettings } from '../settings.js';
import type { TokenizerFiles } from './onnx-tokens.js';

/** A model's folder, and what its files say. */
export interface OnnxFiles {
  readonly folder: string;
  readonly dtype: OnnxDtype;
  /** Changes when the weights or the tokeniser do. */
  readonly revision: string;
  readonly maxTokens: number;
  readonly padTokenId: number;
  readonly pooling: OnnxPooling;
  readonly queryPrefix: string;
  readonly documentPrefix: string;
}

/** transformers.js's file names, in the order in which a dtype is chosen when none was asked for. */
const SUFFIXES: readonly (readonly [OnnxDtype, string])[] = [
  ['q8', '_quantized'],
  ['int8', '_int8'],
  ['uint8', '_uint8'],
  ['fp32', ''],
  ['fp16', '_fp16'],
  ['q4', '_q4'],
  ['q4f16', '_q4f16'],
  ['bnb4', '_bnb4'],
];

/** Where neither the tokeniser nor the configuration says. */
const FALLBACK_MAX_TOKENS = 512;

/** Of these, the first positions are not for tokens: RoBERTa counts from the padding id + 1. */
const OFFSET_POSITIONS = /roberta|camembert|mpnet/;

const length = z.number().positive().optional().catch(undefined);
const configSchema = z.object({
  model_type: z.string().catch(''),
  max_position_embeddings: length,
  pad_token_id: z.number().int().nonnegative().nullish().catch(undefined),
});
const tokenizerConfigSchema = z.looseObject({ model_max_length: length });
const sentenceSchema = z.object({ max_seq_length: length });
const flag = z.boolean().catch(false);
const poolingSchema = z.object({ pooling_mode_cls_token: flag, pooling_mode_lasttoken: flag });
const prompt = z.string().optional().catch(undefined);
const promptsSchema = z.object({ query: prompt, document: prompt, passage: prompt });
const promptsFileSchema = z.object({ prompts: promptsSchema.optional().catch(undefined) });

/** The folder of a model below `root`, or `root` itself where that is one; undefined where there is none. */
export function findFolder(root: string, name: string): string | undefined {
  return [join(root, name), root].find((folder) => existsSync(join(folder, 'config.json')));
}

/** Reads everything but the weights, of which only the hash is made. Throws EmbedError `configuration`. */
export async function readOnnxFiles(folder: string, settings: OnnxSettings): Promise<OnnxFiles> {
  const config = configSchema.parse(await readJson(folder, 'config.json'));
  const { config: tokenizerConfig } = await readTokenizerFiles(folder);
  const sentence = sentenceSchema.parse(await readJson(folder, 'sentence_bert_config.json', {}));
  const pooling = poolingSchema.parse(await readJson(folder, '1_Pooling/config.json', {}));
  const { prompts } = promptsFileSchema.parse(await readJson(folder, 'config_sentence_transformers.json', {}));
  const { dtype, weights } = await chooseDtype(folder, settings.dtype);
  const positions = config.max_position_embeddings ?? Number.POSITIVE_INFINITY;
  const unused = OFFSET_POSITIONS.test(config.model_type) ? (config.pad_token_id ?? 1) + 1 : 0;
  const maxTokens = Math.min(
    sentence.max_seq_length ?? Number.POSITIVE_INFINITY,
    tokenizerConfigSchema.parse(tokenizerConfig).model_max_length ?? Number.POSITIVE_INFINITY,
    positions - unused,
  );
  return {
    folder,
    dtype,
    revision: await hashOf(folder, [...weights, 'tokenizer.json']),
    // A tokeniser without a limit says 1e30.
    maxTokens: maxTokens < 1e9 ? Math.floor(maxTokens) : FALLBACK_MAX_TOKENS,
    padTokenId: config.pad_token_id ?? 0,
    pooling: settings.pooling ?? poolingOf(pooling),
    queryPrefix: settings.queryPrefix ?? prompts?.query ?? '',
    documentPrefix: settings.documentPrefix ?? prompts?.document ?? prompts?.passage ?? '',
  };
}

export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  return {
    tokenizer: await readJson(folder, 'tokenizer.json'),
    config: await readJson(folder, 'tokenizer_config.json', {}),
  };
}

function poolingOf(config: z.infer<typeof poolingSchema>): OnnxPooling {
  if (config.pooling_mode_cls_token) return 'cls';
  return config.pooling_mode_lasttoken ? 'last_token' : 'mean';
}

/** The dtype, and the files of its weights (more than one where they are kept outside the graph), from the folder. */
async function chooseDtype(
  folder: string,
  wanted: OnnxDtype | undefined,
): Promise<{ dtype: OnnxDtype; weights: string[] }> {
  const files = await readdir(join(folder, 'onnx')).catch((): string[] => []);
  const present = SUFFIXES.filter(([, suffix]) => files.includes(`model${suffix}.onnx`));
  const found = present.find(([dtype]) => wanted === undefined || dtype === wanted);
  if (found) {
    const graph = `model${found[1]}.onnx`;
    const weights = files.filter((file) => file === graph || file.startsWith(`${graph}_data`)).sort();
    return { dtype: found[0], weights: weights.map((file) => join('onnx', file)) };
  }
  const there = present.length > 0 ? `it has ${present.map(([dtype]) => dtype).join(', ')}` : 'it has none at all';
  throw new EmbedError('configuration', `${folder} has no onnx/model….onnx for dtype ${wanted ?? 'any'}: ${there}`);
}

async function hashOf(folder: string, files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) for await (const chunk of createReadStream(join(folder, file))) hash.update(chunk);
  return hash.digest('hex');
}

async function readJson(folder: string, file: string, missing?: object): Promise<object> {
  const path = join(folder, file);
  if (missing !== undefined && !existsSync(path)) return missing;
  try {
    return z.looseObject({}).parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    throw Object.assign(new EmbedError('configuration', `${path} is missing or makes no sense`), { cause: error });
  }
}
