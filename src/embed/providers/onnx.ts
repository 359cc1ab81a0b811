import { availableParallelism } from 'node:os';
import { fingerprint, type ModelSpec } from '../../catalog/model.js';
import { type EmbeddingModel, EmbedError } from '../port.js';
import type { OnnxSettings } from '../settings.js';
import type { EngineInfo } from './onnx-engine.js';
import { readTokenizerFiles } from './onnx-files.js';
import { OnnxThread } from './onnx-thread.js';
import { createCount, createFit } from './onnx-tokens.js';

/** The small inferences that keep within a CPU's caches gain little from more. */
const MOST_THREADS = 8;

/** A name becomes part of a path and of a URL: no empty part, no dots alone. */
const NO_NAME = /(^|[/\\])\.{0,2}([/\\]|$)/;

/**
 * A sentence-transformers model in ONNX format, by way of @huggingface/transformers, in a thread of its own. The thread
 * starts here, so that wrong dimensions and missing files are known at once; one that dies makes the requests under way
 * `bad_response`, and the next request starts another. Texts longer than the model takes are cut here: who wants to know
 * asks `fit` before.
 * Throws EmbedError `configuration`, or `unavailable` where a download failed.
 */
export async function openOnnx(model: ModelSpec, settings: OnnxSettings = {}): Promise<EmbeddingModel> {
  if (NO_NAME.test(model.name)) throw new EmbedError('configuration', `${model.spec}: ${model.name} names no model`);
  let thread: Promise<OnnxThread> | undefined;
  let closed = false;
  const start = async () => {
    const threads = settings.threads ?? Math.min(availableParallelism(), MOST_THREADS);
    const starting: Promise<OnnxThread> = OnnxThread.start({ name: model.name, settings, threads }, () => {
      if (thread === starting) thread = undefined;
    });
    thread = starting;
    return starting;
  };
  const { info } = await start();
  const stop = async () => {
    const running = thread;
    thread = undefined;
    await (await running?.catch(() => undefined))?.stop();
  };
  if (info.dimensions !== model.dimensions) {
    await stop();
    const right = `onnx/${model.name}@${info.dimensions}`;
    throw new EmbedError('configuration', `${model.spec} has ${info.dimensions} dimensions: write ${right}`);
  }
  const identity = identify(model, settings, info);
  const tokenizer = await readTokenizerFiles(info.folder);
  const count = createCount(tokenizer, info.maxTokens, info.extraTokens);

  /** The running thread, or a new one, with the same files in it. */
  const running = async () => {
    if (closed) throw new EmbedError('unavailable', `${model.spec} is closed`);
    const current = await (thread ?? start());
    if (identify(model, settings, current.info) === identity) return current;
    throw new EmbedError('configuration', `the files of ${model.spec} have changed: start this process again`);
  };

  return {
    spec: model.spec,
    fingerprint: identity,
    dimensions: model.dimensions,
    limits: { maxInputs: 256, maxTokensPerInput: info.maxTokens, maxTokensPerRequest: 32_768, likeLengths: true },
    countTokens: count,
    fit: createFit(tokenizer, info.extraTokens),
    async close() {
      closed = true;
      await stop();
    },
    async embed(texts, { signal, purpose }) {
      const prefix = purpose === 'query' ? info.queryPrefix : info.documentPrefix;
      const prefixed = prefix === '' ? texts : texts.map((text) => prefix + text);
      return (await running()).embed(prefixed, signal);
    },
  };
}

function identify(model: ModelSpec, settings: OnnxSettings, info: EngineInfo): string {
  return fingerprint(model, {
    revision: info.revision,
    prefix: info.documentPrefix,
    queryPrefix: info.queryPrefix,
    normalised: settings.normalise ?? true,
    dtype: info.dtype,
    pooling: info.pooling,
    maxTokens: info.maxTokens,
  });
}
