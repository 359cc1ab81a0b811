import { FreshvecError } from '../db/errors.js';
import { type EmbedSettings, openModel } from '../embed/open.js';
import type { EmbeddingModel } from '../embed/port.js';

/** The models that this process uses, each opened once. */
export interface Models {
  get(spec: string): Promise<EmbeddingModel>;
  /** The model of a space; refuses one whose meaning is not that of the space's vectors any more. */
  forSpace(space: { spec: string; fingerprint: string; dimensions: number }): Promise<EmbeddingModel>;
  close(): Promise<void>;
}

/** `given` are models that the app made itself. */
export function createModels(settings: EmbedSettings, given: readonly EmbeddingModel[] = []): Models {
  const open = new Map(given.map((model) => [model.spec, Promise.resolve(model)]));
  const get = (spec: string): Promise<EmbeddingModel> => {
    const known = open.get(spec);
    if (known) return known;
    const opening = openModel(spec, settings);
    open.set(spec, opening);
    opening.catch(() => open.delete(spec)); // The next caller tries again.
    return opening;
  };
  return {
    get,
    async forSpace(space) {
      const model = await get(space.spec);
      if (model.fingerprint === space.fingerprint && model.dimensions === space.dimensions) return model;
      throw new FreshvecError(
        'model_changed',
        `${space.spec} is ${model.fingerprint} in this process, but the vectors were made by ${space.fingerprint}. ` +
          'Vectors of two models must not be mixed: run the version of freshvec that made them, or re-embed.',
      );
    },
    async close() {
      const models = await Promise.allSettled(open.values());
      open.clear();
      await Promise.all(models.map((m) => (m.status === 'fulfilled' ? m.value.close() : undefined)));
    },
  };
}
