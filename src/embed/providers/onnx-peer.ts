import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EmbedError } from '../port.js';
import type { OnnxDtype } from '../settings.js';

/** The module, as far as its types reach into ours. */
export type Transformers = typeof import('@huggingface/transformers');

const PEER = '@huggingface/transformers';

/** What transformers does not fetch by itself, and not every model has. */
const EXTRA_FILES = ['1_Pooling/config.json', 'sentence_bert_config.json', 'config_sentence_transformers.json'];

/** Loads the optional peer. Throws EmbedError `configuration` where it is not installed. */
export async function importTransformers(peer: string = PEER): Promise<Transformers> {
  const module: Transformers = await import(peer).catch((error: unknown) => {
    throw Object.assign(new EmbedError('configuration', `run: npm install ${peer}`), { cause: error });
  });
  // Its log would show token ids, from which the text can be read.
  module.env.logLevel = module.LogLevel.NONE;
  return module;
}

/**
 * Fetches a model from the hub into `cacheDir/NAME`, file by file, each renamed into place when whole.
 * Throws EmbedError `configuration` where it is not there, else `unavailable`.
 */
export async function download(
  transformers: Transformers,
  name: string,
  cacheDir: string,
  dtype: OnnxDtype = 'q8',
): Promise<void> {
  const { env, AutoModel, AutoTokenizer } = transformers;
  env.allowRemoteModels = true;
  try {
    const model = await AutoModel.from_pretrained(name, { cache_dir: cacheDir, dtype, device: 'cpu' });
    await model.dispose();
    await AutoTokenizer.from_pretrained(name, { cache_dir: cacheDir });
    for (const file of EXTRA_FILES) {
      const base = `${env.remoteHost}${env.remotePathTemplate.replace('{model}', name).replace('{revision}', 'main')}`;
      const response: Response = await env.fetch(`${base}${file}`);
      if (response.status === 404) continue;
      if (!response.ok) throw new Error(`${response.status} for ${file}`);
      const path = join(cacheDir, name, file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, await response.text());
    }
  } catch (error) {
    const refused = error instanceof Error && /could not locate|unauthorized|forbidden|invalid/i.test(error.message);
    const what = refused ? 'is not on the hub, or is private' : 'could not be downloaded';
    throw Object.assign(new EmbedError(refused ? 'configuration' : 'unavailable', `onnx/${name} ${what}`), {
      cause: error,
    });
  }
}
