import type { ChargedTo } from '../budget/spend.js';
import { FreshvecError } from '../db/errors.js';
import type { Gate } from '../embed/gate.js';
import type { EmbeddingModel, EmbedPurpose, EmbedResult } from '../embed/port.js';
import { EmbedError } from '../embed/port.js';
import { mostTokensOf } from '../embed/tokens.js';
import type { Connection } from './connection.js';

export interface TextVector {
  /** `provider/name@dimensions#hash` */
  readonly model: string;
  readonly dimensions: number;
  /** Length `dimensions`. */
  readonly vector: Float32Array;
  readonly tokens: number;
}

export interface EmbedTextOptions {
  readonly purpose: EmbedPurpose;
  /** Who is charged. */
  readonly to: ChargedTo;
  readonly signal?: AbortSignal | undefined;
}

/** Embeds one text for somebody who waits: it goes ahead of all other work, and is charged. Throws EmbedError. */
export async function embedText(
  connection: Connection,
  spec: string,
  text: string,
  { purpose, to, signal }: EmbedTextOptions,
): Promise<TextVector> {
  const model = await connection.models.get(spec);
  const send = (): Promise<EmbedResult> => model.embed([text], signal ? { purpose, signal } : { purpose });
  const gate = await gateOf(connection, model, to);
  const tokens = model.countTokens(text);
  const request = {
    tokens,
    mostTokens: mostTokensOf(model, text, tokens),
    texts: 1,
    priority: 'query',
    signal,
  } as const;
  const answer = gate ? await gate.run(request, send) : await send();
  const [vector] = answer.vectors;
  if (!vector) throw new EmbedError('bad_response', `${model.spec} answered with no vector`);
  return { model: model.fingerprint, dimensions: model.dimensions, vector, tokens: answer.tokens };
}

/** Undefined where nothing is charged, or there is no database yet to put it down in. */
async function gateOf(connection: Connection, model: EmbeddingModel, to: ChargedTo): Promise<Gate | undefined> {
  if (model.account === undefined || connection.config.database === undefined) return undefined;
  try {
    return (await connection.gates()).for(model, to);
  } catch (error) {
    // The first thing that a person tries is whether the key works.
    if (error instanceof FreshvecError && error.code === 'schema_missing') return undefined;
    throw error;
  }
}
