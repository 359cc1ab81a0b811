import { failedAs } from '../claim/failures.js';
import type { Ending } from '../claim/settle.js';
import type { Store, StoredVector } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import type { MadeVector } from './made-vector.js';
import type { ReadTexts } from './read-texts.js';

/** How soon a text that the other space has no vector of yet is looked for again, in s; doubles with each try. */
const WAIT_SECONDS = { first: 0.1, most: 5 };

/**
 * Takes the vectors of the wanted texts from the space that has the same fingerprint. A text that is not there yet waits:
 * it is paid for there, once. One that failed there fails here.
 */
export async function copyTexts(
  { db, copyFrom }: Pick<DrainContext, 'db'> & { readonly copyFrom: Store },
  read: ReadTexts,
): Promise<EmbeddedTexts> {
  const items: MadeVector[] = [];
  const endings: Ending[] = [...read.endings];
  const keys = read.wanted.map(({ key }) => key);
  const stored: Map<string, StoredVector> =
    keys.length === 0 ? new Map() : await db.tx((tx) => copyFrom.vectors(tx, keys));
  // One that was made of a part of its text, in another way than is asked for now, is on its way out there.
  for (const [key, { long }] of stored) if (long && long.how !== copyFrom.source.longTexts) stored.delete(key);
  const missing = read.wanted.filter(({ key, hash }) => stored.get(key)?.hash !== hash);
  const failed = await failedAs(
    db,
    copyFrom.space.id,
    missing.map(({ key }) => key),
  );
  for (const { key, hash, page, lease } of read.wanted) {
    const found = stored.get(key);
    if (found?.hash === hash) items.push({ key, hash, page, vector: found.vector, long: found.long });
    else {
      const failure = failed.get(key);
      if (failure?.hash === hash)
        endings.push({
          key,
          end: 'fail',
          code: failure.code,
          message: failure.message,
          attempts: lease.attempts + 1,
          hash,
        });
      else
        endings.push({
          key,
          end: 'wait',
          seconds: Math.min(WAIT_SECONDS.first * 2 ** lease.losses, WAIT_SECONDS.most),
          because: 'changed',
        });
    }
  }
  const losses = new Map(read.wanted.map(({ key, lease }) => [key, lease.losses]));
  const { token, priority, confirm, remove } = read;
  return { token, priority, items, confirm, remove, refused: [], endings, losses, coolDownMs: undefined };
}
