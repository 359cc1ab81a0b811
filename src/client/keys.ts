import { parseKey } from '../catalog/expressions.js';
import type { KeyColumn } from '../catalog/source.js';

/** A key as JSON shows it: the value, or an object of column → value for a composite one. */
export type KeyValue = string | number | Record<string, string | number>;

const WHOLE_TYPES: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint']);

/** The key's value, from its text form. A whole number that JavaScript cannot hold stays text. */
export function keyValue(key: readonly KeyColumn[], text: string): KeyValue {
  const values = parseKey(key, text).map((part, i) => {
    const whole = WHOLE_TYPES.has(key[i]?.type ?? '') ? Number(part) : Number.NaN;
    return Number.isSafeInteger(whole) ? whole : part;
  });
  const [first = text] = values;
  return key.length === 1 ? first : Object.fromEntries(key.map(({ name }, i) => [name, values[i] ?? '']));
}
