import { isDeepStrictEqual } from 'node:util';
import { getSourceById } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { classify, FreshvecError, sqlState } from '../db/errors.js';
import { EmbedError } from '../embed/port.js';
import type { Store } from '../store/port.js';

/** How long a space rests after an error that a person must mend, in ms. */
export const BROKEN_REST_MS = 30_000;
/**
 * The same after a statement that the database refused or ended (its time was up), and may do so for a while: what was
 * embedded is paid for again. Doubled with each one in a row, up to `most`.
 */
const REFUSED_REST_MS = { first: 5_000, most: 300_000 };

/** A time-out of the role or the database, or a person. */
const QUERY_CANCELED = '57014';

/**
 * How long a space rests after what a drain of it failed with, in ms; 0 where it may be tried at once. `refusals`: how many
 * rests after refused statements there were since a write last went through.
 */
export function restAfter(error: unknown, refusals: number): number {
  if (error instanceof EmbedError || hasCode(error, 'rows_hidden')) return BROKEN_REST_MS;
  if (!isRefused(error)) return 0;
  return Math.min(REFUSED_REST_MS.first * 2 ** refusals, REFUSED_REST_MS.most);
}

/**
 * This process lacks what another one may have (a key, a file, a package, a model that the app made), and no provider was
 * asked: it is not everybody's trouble.
 */
export function isOfThisProcess({ failure, details }: EmbedError): boolean {
  return failure === 'configuration' && details.status === undefined;
}

/** Source or space mean something else than when the store was opened: no error, but a reason to look again. */
export function isRenamed(error: unknown): boolean {
  return hasCode(error, 'space_renamed');
}

/** A column or table is missing, and the catalog knows of it: a migration has taken it away since the store was opened. */
export async function isOutdated(db: Executor, { source, space }: Store, error: unknown): Promise<boolean> {
  // Undefined column, undefined table.
  if (!['42703', '42P01'].includes(sqlState(error) ?? '')) return false;
  const now = { source: await getSourceById(db, source.id), space: await getSpace(db, space.id) };
  return !isDeepStrictEqual(now, { source, space });
}

/** A statement that the database refused or ended, and may refuse again. */
export function isRefused(error: unknown): boolean {
  const state = sqlState(error);
  if (state === undefined) return false;
  return state === QUERY_CANCELED || !['retry', 'lock_timeout', 'connection', 'too_many'].includes(classify(error));
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof FreshvecError && error.code === code;
}
