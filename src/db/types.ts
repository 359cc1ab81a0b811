import { FreshvecError } from './errors.js';

/**
 * How values cross the wire, for both drivers: neither node-postgres' nor PGlite's own conversions are used, so that
 * a row looks the same whichever of them read it. Types that are not named here stay the text that PostgreSQL sent.
 */
export type TextParser = (text: string) => unknown;

/** A parameter as sent: text, or a buffer in the binary format of the parameter's type. */
export type WireParameter = string | Buffer | null;

const SCALARS: Readonly<Record<number, TextParser>> = {
  16: (text) => text === 't' || text === 'true',
  17: parseBytea,
  20: parseInt8,
  21: Number,
  23: Number,
  26: Number,
  114: parseJson,
  700: Number,
  701: Number,
  1082: keepText,
  1114: keepText,
  1184: parseTimestamptz,
  3802: parseJson,
};

/** Array types by oid (src/include/catalog/pg_type.dat): oid of the array → oid of its elements. */
const ARRAYS: Readonly<Record<number, number>> = {
  199: 114,
  1000: 16,
  1001: 17,
  1002: 18,
  1003: 19,
  1005: 21,
  1007: 23,
  1009: 25,
  1014: 1042,
  1015: 1043,
  1016: 20,
  1021: 700,
  1022: 701,
  1028: 26,
  1115: 1114,
  1182: 1082,
  1185: 1184,
  1231: 1700,
  2951: 2950,
  3807: 3802,
};

/** All parsers by type oid. int8 is a number, numeric, date and timestamp are text, timestamptz is a Date. */
export const PARSERS: Readonly<Record<number, TextParser>> = Object.freeze({
  ...SCALARS,
  ...Object.fromEntries(
    Object.entries(ARRAYS).map(([array, element]) => {
      const parse = SCALARS[element] ?? keepText;
      return [array, (text: string): unknown => parseArray(text, parse)];
    }),
  ),
});

/** Turns a parameter into what is sent. Arrays become array literals, other objects JSON, bytes are sent as they are. */
export function encodeParameter(value: unknown): WireParameter {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return arrayLiteral(value);
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

function arrayLiteral(values: readonly unknown[]): string {
  return `{${values.map(arrayElement).join(',')}}`;
}

function arrayElement(value: unknown): string {
  if (Array.isArray(value)) return arrayLiteral(value);
  const sent = encodeParameter(value);
  if (sent === null) return 'NULL';
  const text = typeof sent === 'string' ? sent : `\\x${sent.toString('hex')}`;
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function keepText(text: string): string {
  return text;
}

function parseInt8(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw new FreshvecError(
    'int8_out_of_range',
    `The bigint ${text} does not fit a JavaScript number; cast it to text in the statement that reads it.`,
  );
}

function parseBytea(text: string): Buffer {
  return Buffer.from(text.slice(2), 'hex');
}

function parseJson(text: string): unknown {
  return JSON.parse(text);
}

/** `2024-01-31 10:00:00.123456+05:30` → Date; infinity, and years that ISO 8601 has no form for, stay text. */
function parseTimestamptz(text: string): Date | string {
  const match = /^(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(:\d\d)?(?::\d\d)?$/.exec(text);
  const date = match ? new Date(`${match[1]}T${match[2]}${match[3]}${match[4] ?? ':00'}`) : new Date(Number.NaN);
  return Number.isNaN(date.getTime()) ? text : date;
}

/** Parses array_out's text form, nested arrays and explicit lower bounds included. */
export function parseArray(text: string, element: TextParser): unknown[] {
  const start = text.startsWith('[') ? text.indexOf('=') + 1 : 0;
  const stack: unknown[][] = [];
  let current: unknown[] = [];
  const token = /[{},]|"((?:[^"\\]|\\.)*)"|[^{},"]+/gsy;
  token.lastIndex = start;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [raw, quoted] = match;
    if (raw === '{') {
      stack.push(current);
      current = [];
    } else if (raw === '}') {
      const outer = stack.pop() ?? [];
      outer.push(current);
      current = outer;
    } else if (quoted !== undefined) current.push(element(quoted.replace(/\\(.)/gs, '$1')));
    else if (raw !== ',') current.push(raw === 'NULL' ? null : element(raw));
  }
  const [parsed] = current;
  return Array.isArray(parsed) ? parsed : [];
}
