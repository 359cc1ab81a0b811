import { type EmbeddingModel, EmbedError } from '../embed/port.js';
import type { StageObserver } from '../observe/metrics.js';
import type { Models } from '../worker/models.js';

/** The same models, each of whose requests is told of. */
export function observedModels(models: Models, observer: StageObserver): Models {
  const known = new WeakMap<EmbeddingModel, EmbeddingModel>();
  const observed = (model: EmbeddingModel): EmbeddingModel => {
    const same = known.get(model) ?? observedModel(model, observer);
    known.set(model, same);
    return same;
  };
  return {
    get: async (spec) => observed(await models.get(spec)),
    forSpace: async (space) => observed(await models.forSpace(space)),
    close: () => models.close(),
  };
}

function observedModel(model: EmbeddingModel, observer: StageObserver): EmbeddingModel {
  const { account, fingerprint } = model;
  return {
    ...model,
    async embed(texts, options) {
      const began = performance.now();
      try {
        const result = await model.embed(texts, options);
        observer.embedded({ model: fingerprint, seconds: (performance.now() - began) / 1000 });
        tellLimits(result.rateLimit);
        return result;
      } catch (error) {
        // Else it was cut short by us, or is no failure of the provider's.
        if (error instanceof EmbedError) {
          observer.providerFailed({ model: fingerprint, failure: error.failure });
          tellLimits(error.details.rateLimit);
        }
        throw error;
      }
    },
  };

  function tellLimits(left: EmbedError['details']['rateLimit']): void {
    if (account === undefined || left === undefined) return;
    observer.limits({ account, model: fingerprint, requests: left.remainingRequests, tokens: left.remainingTokens });
  }
}
