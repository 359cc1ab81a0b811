import { parseModelSpec } from '../catalog/model.js';
import { withChecks } from './check.js';
import { type EmbeddingModel, EmbedError } from './port.js';
import type { EmbedSettings } from './settings.js';

export type { EmbedSettings, OnnxSettings, OpenAISettings } from './settings.js';

/**
 * Opens the model that a spec names, with every response checked. Nothing is sent yet.
 * Throws FreshvecError `model_unknown` or `model_files_damaged`, EmbedError `configuration`.
 */
export async function openModel(spec: string, settings: EmbedSettings): Promise<EmbeddingModel> {
  const model = parseModelSpec(spec);
  // Imported when needed: a worker with the bundled model does not load the OpenAI client, nor the other way round.
  switch (model.provider) {
    case 'static':
      return withChecks(await (await import('./providers/static.js')).openStatic(model));
    case 'openai':
      return withChecks(await (await import('./providers/openai.js')).openOpenAI(model, settings));
    case 'onnx':
      return withChecks(await (await import('./providers/onnx.js')).openOnnx(model, settings.onnx));
    case 'ai':
      throw new EmbedError(
        'configuration',
        `${spec} is a model of the AI SDK: give it to createClient({ models: [fromAiSdk(…)] })`,
      );
    case 'fake':
      return withChecks((await import('./providers/fake.js')).openFake(model, settings.fake?.latencyMs ?? 0));
  }
}
