import { parseModelSpec } from '../catalog/model.js';

/** USD per million tokens of OpenAI's own service, from https://platform.openai.com/docs/pricing (2025). */
const OPENAI_PRICES: ReadonlyMap<string, number> = new Map([
  ['text-embedding-3-small', 0.02],
  ['text-embedding-3-large', 0.13],
  ['text-embedding-ada-002', 0.1],
]);

/** 0 for a model in this process; undefined where the price is not known, as with any other compatible server. */
export function pricePerMillionTokens(spec: string, baseUrl: string | undefined): number | undefined {
  const { provider, name } = parseModelSpec(spec);
  if (provider !== 'openai') return 0;
  const isOpenAI = baseUrl === undefined || URL.parse(baseUrl)?.hostname === 'api.openai.com';
  return isOpenAI ? OPENAI_PRICES.get(name) : undefined;
}
