import type { KeyInput } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { FreshvecError, withOwnCode } from '../db/errors.js';

/**
 * The key as freshvec writes it: each part goes through its column's type, so that `0042` is `42`.
 * Throws FreshvecError `key_invalid`, `privilege_missing`.
 */
export async function keyText(db: Executor, source: Source, key: KeyInput): Promise<string> {
  const parts = JSON.stringify(keyParts(source, key));
  try {
    const [row] = await db.query<{ key: string }>('SELECT freshvec.key_text($1, $2::jsonb) AS key', [source.id, parts]);
    return row?.key ?? '';
  } catch (error) {
    throw withOwnCode(error);
  }
}

/** Parts in key order, or by column. The key of several columns may also come as the JSON text of either. */
function keyParts(source: Source, key: KeyInput): unknown {
  if (typeof key === 'object')
    return Object.fromEntries(Object.entries(key).map(([name, part]) => [name, String(part)]));
  if (source.key.length === 1) return [String(key)];
  try {
    return JSON.parse(String(key));
  } catch (error) {
    const names = source.key.map(({ name }) => name).join(', ');
    throw new FreshvecError(
      'key_invalid',
      `A key of "${source.name}" has several columns (${names}): give a JSON object or array of them.`,
      { cause: error },
    );
  }
}
