import { FreshvecError } from './errors.js';

/** Longest identifier that PostgreSQL keeps whole, in bytes. */
export const MAX_IDENTIFIER_BYTES = 63;

/** Quotes one identifier; refuses names that PostgreSQL would cut or cannot hold. */
export function ident(name: string): string {
  if (name.length === 0 || name.includes('\0')) {
    throw new FreshvecError('identifier_invalid', `"${name}" is not a name that PostgreSQL can hold.`);
  }
  if (Buffer.byteLength(name, 'utf8') > MAX_IDENTIFIER_BYTES) {
    throw new FreshvecError(
      'identifier_too_long',
      `The name "${name}" has ${Buffer.byteLength(name, 'utf8')} bytes; PostgreSQL keeps ${MAX_IDENTIFIER_BYTES}. Choose a shorter one.`,
    );
  }
  return `"${name.replaceAll('"', '""')}"`;
}

/** Quotes schema and name. */
export function qualified(schema: string, name: string): string {
  return `${ident(schema)}.${ident(name)}`;
}

/** Quotes a string literal, whatever standard_conforming_strings says. */
export function literal(value: string): string {
  if (value.includes('\0')) throw new FreshvecError('literal_invalid', 'PostgreSQL text cannot hold a NUL character.');
  const quoted = `'${value.replaceAll("'", "''")}'`;
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}
