import { parseKey } from './expressions.js';
import type { KeyColumn } from './source.js';

/** A key as JSON shows it: the value, or an object of column → value for a composite one. */
export type KeyValue = string | number | Record<string, string | number>;

const WHOLE_TYPES: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint']);

/** The key's value, from its text form. */
export function keyValue(key: readonly KeyColumn[], text: string): KeyValue {
  const values = parseKey(key, text).map((part, i) => (WHOLE_TYPES.has(key[i]?.type ?? '') ? wholeNumber(part) : part));
  const [first = text] = values;
  return key.length === 1 ? first : Object.fromEntries(key.map(({ name }, i) => [name, values[i] ?? '']));
}

/** A whole number that JavaScript cannot hold exactly (a bigint over 2^53) stays text. */
export function wholeNumber(text: string): string | number {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : text;
}
