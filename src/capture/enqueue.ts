import { FreshvecError, withOwnCode } from '../db/errors.js';

/** A key as the app has it: the value of the key column, or an object of them. */
export type KeyInput = string | number | bigint | Readonly<Record<string, string | number | bigint>>;

/** Any client in the app's own transaction that answers as node-postgres does, or as freshvec's Executor. */
export interface QueryClient {
  query(text: string, values: unknown[]): Promise<unknown>;
}

const ENQUEUE = `SELECT COALESCE(sum(freshvec.enqueue($1::text, __fv_key, $3::boolean)), 0)::int AS added
  FROM jsonb_array_elements_text($2::jsonb) AS __fv_k(__fv_key)`;

/**
 * Says that the rows with these keys may be stale, in the caller's transaction: nothing happens before it commits, and
 * nothing at all if it rolls back. Unchanged text is not paid for unless `force`.
 * @param source name of a source, or of a table: then every source on it.
 * @returns number of changes written: keys × maintained spaces.
 * Throws FreshvecError `key_invalid`, `source_unknown`, `privilege_missing`.
 */
export async function enqueue(
  tx: QueryClient,
  source: string,
  keys: readonly KeyInput[],
  { force = false }: { force?: boolean } = {},
): Promise<number> {
  if (keys.length === 0) return 0;
  const values = [source, JSON.stringify(keys.map(keyText)), String(force)];
  try {
    return readAdded(await tx.query(ENQUEUE, values));
  } catch (error) {
    throw withOwnCode(error);
  }
}

/** A key of one column is its value; one of several is a JSON object, whose names the database checks. */
function keyText(key: KeyInput): string {
  if (typeof key !== 'object') return partText(key);
  const parts = Object.entries(key).map(([name, value]) => [name, partText(value)] as const);
  const [only] = parts;
  return parts.length === 1 && only ? only[1] : JSON.stringify(Object.fromEntries(parts));
}

/** A part of a key as text. Throws FreshvecError `key_invalid` for a number that is not exact. */
export function partText(value: unknown): string {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new FreshvecError('key_invalid', `${value} is no exact whole number; give a bigint or a string.`);
  }
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint') return String(value);
  throw new FreshvecError('key_invalid', 'A key is a string, a number, a bigint, or an object of these.');
}

function readAdded(answer: unknown): number {
  const rows: unknown = typeof answer === 'object' && answer !== null && 'rows' in answer ? answer.rows : answer;
  const row: unknown = Array.isArray(rows) ? rows[0] : undefined;
  const added: unknown = typeof row === 'object' && row !== null && 'added' in row ? row.added : undefined;
  if (added === undefined) {
    throw new FreshvecError('client_unsupported', 'This client does not answer query(text, values) with rows.');
  }
  return Number(added);
}
