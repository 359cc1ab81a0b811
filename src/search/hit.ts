import { parseKey } from '../catalog/expressions.js';
import type { KeyColumn } from '../catalog/source.js';
import type { NearRow } from './guarded.js';
import type { SearchTarget } from './target.js';

export type KeyValue = string | number;

export interface SearchHit {
  /** The key's value, or an object of column → value for a composite one. A bigint over 2^53 is text. */
  readonly key: KeyValue | Record<string, KeyValue>;
  /** As pgvector's operator gives it: cosine distance, L2 distance, or negative inner product. */
  readonly distance: number;
  /** The row's text is not the one that the vector was made from. */
  readonly stale: boolean;
  /** Fingerprint of the model that made the vector. */
  readonly model: string;
  /** The source's row, without the columns that freshvec added. */
  readonly row: Record<string, unknown>;
}

const WHOLE_TYPES: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint']);

export function toHit(near: NearRow, { source, columns }: SearchTarget): SearchHit {
  const row: Record<string, unknown> = {};
  for (const { name, baseType, own } of columns) if (!own) row[name] = toValue(near[name], baseType);
  return {
    key: toKey(source.key, near.__fv_key),
    distance: near.__fv_distance,
    stale: near.__fv_stale,
    model: near.__fv_model,
    row,
  };
}

function toKey(key: readonly KeyColumn[], text: string): SearchHit['key'] {
  const values = parseKey(key, text).map((value, i) => (WHOLE_TYPES.has(key[i]?.type ?? '') ? toWhole(value) : value));
  const [first = text] = values;
  return key.length === 1 ? first : Object.fromEntries(key.map(({ name }, i) => [name, values[i] ?? '']));
}

function toValue(value: unknown, baseType: string): unknown {
  if (baseType === 'bigint' && typeof value === 'string') return toWhole(value);
  if (baseType === 'bigint[]' && Array.isArray(value)) return value.map((item) => toValue(item, 'bigint'));
  return value;
}

function toWhole(text: string): KeyValue {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : text;
}
