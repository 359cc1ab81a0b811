import type { KeyInput } from '../capture/index.js';
import { type KeyValue, keyValue } from '../catalog/key-value.js';
import { getSource, listSources } from '../catalog/source.js';
import { discardFailures, listFailures, retryFailures } from '../claim/failures.js';
import type { Database } from '../db/database.js';
import { keyText } from '../status/key-text.js';

/** A row whose text cannot be embedded, and why. */
export interface FailedRow {
  readonly source: string;
  readonly key: KeyValue;
  readonly code: string;
  readonly message: string;
  readonly attempts: number;
  readonly at: Date;
}

export interface FailuresApi {
  /** Of one source, or of all. */
  list(source?: string): Promise<FailedRow[]>;
  /** Puts failed rows back to work, all of the source's or these; resolves to how many. */
  retry(source: string, keys?: readonly KeyInput[]): Promise<number>;
  /** Takes failures off the list; the text as it is now is not tried again, an edit of it is. Resolves to how many. */
  discard(source: string, keys?: readonly KeyInput[]): Promise<number>;
}

export function failuresApi(ready: () => Promise<Database>): FailuresApi {
  return {
    async list(source) {
      const db = await ready();
      if (source !== undefined) await getSource(db, source);
      const keysOf = new Map((await listSources(db)).map(({ name, key }) => [name, key]));
      const failures = await listFailures(db, source);
      return failures.map((failure) => ({ ...failure, key: keyValue(keysOf.get(failure.source) ?? [], failure.key) }));
    },
    retry: async (source, keys) => withKeys(await ready(), source, keys, retryFailures),
    discard: async (source, keys) => withKeys(await ready(), source, keys, discardFailures),
  };
}

async function withKeys(
  db: Database,
  name: string,
  keys: readonly KeyInput[] | undefined,
  act: (db: Database, source: string, keys?: readonly string[]) => Promise<number>,
): Promise<number> {
  const source = await getSource(db, name);
  if (keys === undefined) return act(db, name);
  const texts: string[] = [];
  for (const key of keys) texts.push(await keyText(db, source, key));
  return act(db, name, texts);
}
