import type { Database, VectorExtension } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';

/** Before it there is no iterative scan, so a filtered search could come back short. */
const OLDEST = [0, 8, 0] as const;

/**
 * Makes sure that pgvector is in the database, creating the extension where it is not.
 * Throws FreshvecError `pgvector_missing` or `pgvector_too_old`.
 */
export async function ensureVectorExtension(db: Database): Promise<VectorExtension> {
  const extension = (await db.vectorExtension()) ?? (await create(db));
  if (isOlder(extension.version)) {
    throw new FreshvecError(
      'pgvector_too_old',
      `pgvector ${extension.version} is installed in this database; freshvec needs ${OLDEST.join('.')} or later ` +
        '(0.8.4 or later is best). Install the newer package on the server, then run ALTER EXTENSION vector UPDATE.',
    );
  }
  return extension;
}

async function create(db: Database): Promise<VectorExtension> {
  try {
    await db.query('CREATE EXTENSION IF NOT EXISTS vector');
  } catch (error) {
    // Another process created it at the same moment.
    if (sqlState(error) !== '23505' && sqlState(error) !== '42710') throw missing(error);
  }
  const extension = await db.vectorExtension();
  if (extension === undefined) throw missing(undefined);
  return extension;
}

function missing(error: unknown): FreshvecError {
  const advice =
    sqlState(error) === '42501'
      ? 'This role may not create it: ask an administrator to run CREATE EXTENSION vector in this database.'
      : 'Install it on the server (Debian: postgresql-17-pgvector; Docker: the image pgvector/pgvector), ' +
        'or choose it in the console of a hosted database, then run this again.';
  const reason = error instanceof Error ? ` (${error.message})` : '';
  return new FreshvecError('pgvector_missing', `The extension pgvector is not in this database${reason}. ${advice}`, {
    cause: error,
  });
}

function isOlder(version: string): boolean {
  const parts = version.split('.').map(Number);
  for (const [i, oldest] of OLDEST.entries()) {
    const part = parts[i] ?? 0;
    if (part !== oldest) return part < oldest;
  }
  return false;
}
