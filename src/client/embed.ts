import type { EmbeddingModel, EmbedPurpose } from '../embed/port.js';
import { EmbedError } from '../embed/port.js';

export interface TextVector {
  /** `provider/name@dimensions#hash` */
  readonly model: string;
  readonly dimensions: number;
  /** Length `dimensions`. */
  readonly vector: Float32Array;
  readonly tokens: number;
}

/** Embeds one text. Throws EmbedError. */
export async function embedText(
  model: EmbeddingModel,
  text: string,
  purpose: EmbedPurpose,
  signal?: AbortSignal,
): Promise<TextVector> {
  const { vectors, tokens } = await model.embed([text], signal ? { purpose, signal } : { purpose });
  const [vector] = vectors;
  if (!vector) throw new EmbedError('bad_response', `${model.spec} answered with no vector`);
  return { model: model.fingerprint, dimensions: model.dimensions, vector, tokens };
}
