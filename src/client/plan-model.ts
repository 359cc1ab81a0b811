import { pricePerMillionTokens } from '../budget/prices.js';
import type { Config } from '../config/config.js';
import { cutOf } from '../embed/cut.js';
import type { EmbeddingModel } from '../embed/port.js';
import type { PlanModel } from '../source/index.js';

/** What a plan has to know of a model. */
export function planModel(model: EmbeddingModel, config: Config): PlanModel {
  const prices = { prices: config.prices, baseUrl: config.models.openai.baseUrl };
  return {
    spec: model.spec,
    fingerprint: model.fingerprint,
    dimensions: model.dimensions,
    countTokens: (text) => model.countTokens(text),
    cut: (text, longTexts) => cutOf(model, text, longTexts),
    maxTokensPerInput: knownLimit(model.limits.maxTokensPerInput),
    pricePerMillionTokens: pricePerMillionTokens(model.spec, prices),
  };
}

/** Absent for a model that takes texts of any length. */
function knownLimit(maxTokens: number): number | undefined {
  return maxTokens < Number.MAX_SAFE_INTEGER ? maxTokens : undefined;
}
