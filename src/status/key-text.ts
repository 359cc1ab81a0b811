import { type KeyInput, partText } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { FreshvecError, withOwnCode } from '../db/errors.js';

/**
 * The key as freshvec writes it: each part goes through its column's type, so that `0042` is `42`.
 * Throws FreshvecError `key_invalid`, `privilege_missing`.
 */
export async function keyText(db: Executor, source: Source, key: KeyInput): Promise<string> {
  const parts = keyParts(source, key);
  try {
    const [row] = await db.query<{ key: string }>('SELECT freshvec.key_text($1, $2::jsonb) AS key', [source.id, parts]);
    return row?.key ?? '';
  } catch (error) {
    throw withOwnCode(error);
  }
}

/**
 * JSON of the parts in key order, or by column. The key of several columns may also come as the JSON text of either, which
 * the database reads: its numbers may be larger than JavaScript's.
 */
function keyParts(source: Source, key: KeyInput): string {
  if (typeof key === 'object')
    return JSON.stringify(Object.fromEntries(Object.entries(key).map(([name, part]) => [name, partText(part)])));
  if (source.key.length === 1) return JSON.stringify([partText(key)]);
  const text = String(key);
  try {
    JSON.parse(text);
    return text;
  } catch (error) {
    const names = source.key.map(({ name }) => name).join(', ');
    throw new FreshvecError(
      'key_invalid',
      `A key of "${source.name}" has several columns (${names}): give a JSON object or array of them.`,
      { cause: error },
    );
  }
}
