import type { Fault } from './faults.js';
import { standinVector, toBase64 } from './vectors.js';

export interface Ask {
  readonly model: string;
  readonly texts: readonly string[];
  readonly format: 'float' | 'base64';
  readonly dimensions: number;
}

/** The body of an answer, changed as the fault says. `seed` is that of the model. */
export function answerBody(ask: Ask, tokens: number, seed: number, fault: Fault | undefined): string {
  if (fault?.kind === 'not_json') return 'embedding: none today';
  let items = ask.texts.map((text, index) => ({ object: 'embedding', index, embedding: embedding(text) }));
  if (fault?.kind === 'short') items = items.slice(0, -1);
  if (fault?.kind === 'reordered') items.reverse();
  const usage = { prompt_tokens: tokens, total_tokens: tokens };
  const body = JSON.stringify({ object: 'list', data: items, model: ask.model, usage });
  if (fault?.kind === 'half_json') return body.slice(0, body.length >> 1);
  // Python's servers write NaN where JSON has no word for it.
  return fault?.kind === 'nan' ? body.replaceAll('"NaN"', 'NaN') : body;

  function embedding(text: string): string | (number | string | null)[] {
    const dimensions = fault?.kind === 'wrong_dimension' ? ask.dimensions + 1 : ask.dimensions;
    const vector = standinVector(text, dimensions, fault?.kind === 'model_changed' ? fault.seed : seed);
    if (fault?.kind === 'all_zero') vector.fill(0);
    // What base64 has no word for comes as numbers, whatever was asked for.
    if (fault?.kind === 'null') return [null, ...vector.slice(1)];
    if (fault?.kind === 'nan' && ask.format === 'float') return ['NaN', ...vector.slice(1)];
    if (fault?.kind === 'nan') vector[0] = Number.NaN;
    return ask.format === 'base64' ? toBase64(vector) : [...vector];
  }
}
