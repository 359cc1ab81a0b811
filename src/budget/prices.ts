import { parseModelSpec } from '../catalog/model.js';

/** USD per million tokens of OpenAI's own service, from https://platform.openai.com/docs/pricing (2025). */
const OPENAI_PRICES: ReadonlyMap<string, number> = new Map([
  ['text-embedding-3-small', 0.02],
  ['text-embedding-3-large', 0.13],
  ['text-embedding-ada-002', 0.1],
]);

/** What the configuration says about prices. */
export interface PriceSettings {
  /** USD per million tokens by spec, with or without its dimensions: `openai/text-embedding-3-small`. */
  readonly prices?: Readonly<Record<string, number>> | undefined;
  readonly baseUrl?: string | undefined;
}

/**
 * USD per million tokens: what the configuration says, else what is known of OpenAI; 0 for a model in this process;
 * undefined where nobody knows, as with any other compatible server or a model of the AI SDK.
 */
export function pricePerMillionTokens(spec: string, { prices = {}, baseUrl }: PriceSettings): number | undefined {
  const { provider, name } = parseModelSpec(spec);
  const told = prices[spec] ?? prices[`${provider}/${name}`];
  if (told !== undefined) return told;
  if (provider === 'ai') return undefined;
  if (provider !== 'openai') return 0;
  const isOpenAI = baseUrl === undefined || URL.parse(baseUrl)?.hostname === 'api.openai.com';
  return isOpenAI ? OPENAI_PRICES.get(name) : undefined;
}
