import { type KeyValue, keyValue, wholeNumber } from '../catalog/key-value.js';
import type { NearRow } from './guarded.js';
import type { SearchTarget } from './target.js';

export interface SearchHit {
  /** The key's value, or an object of column → value for a composite one. A bigint over 2^53 is text. */
  readonly key: KeyValue;
  /** As pgvector's operator gives it: cosine distance, L2 distance, or negative inner product. */
  readonly distance: number;
  /** The row's text is not the one that the vector was made from. */
  readonly stale: boolean;
  /** Fingerprint of the model that made the vector. */
  readonly model: string;
  /** The source's row, without the columns that freshvec added. */
  readonly row: Record<string, unknown>;
}

export function toHit(near: NearRow, { source, columns }: SearchTarget): SearchHit {
  const row: Record<string, unknown> = {};
  for (const { name, baseType, own } of columns) if (!own) row[name] = toValue(near[name], baseType);
  return {
    key: keyValue(source.key, near.__fv_key),
    distance: near.__fv_distance,
    stale: near.__fv_stale,
    model: near.__fv_model,
    row,
  };
}

function toValue(value: unknown, baseType: string): unknown {
  if (baseType === 'bigint' && typeof value === 'string') return wholeNumber(value);
  if (baseType === 'bigint[]' && Array.isArray(value)) return value.map((item) => toValue(item, 'bigint'));
  return value;
}
