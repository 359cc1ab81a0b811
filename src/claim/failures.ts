import type { Executor } from '../db/database.js';
import { LANES } from './lease.js';

/** A key that was set aside, and why. */
export interface Failure {
  readonly source: string;
  readonly key: string;
  readonly code: string;
  readonly message: string;
  readonly attempts: number;
  readonly at: Date;
}

export async function listFailures(db: Executor, source?: string): Promise<Failure[]> {
  const rows = await db.query<{
    source: string;
    key: string;
    code: string;
    message: string;
    attempts: number;
    at: Date;
  }>(
    `SELECT s.name AS source, f.key, f.code, f.message, f.attempts, f.at
     FROM freshvec.failure f JOIN freshvec.space p ON p.id = f.space_id JOIN freshvec.source s ON s.id = p.source_id
     WHERE NOT f.discarded AND ($1::text IS NULL OR s.name = $1) ORDER BY s.name, f.at, f.key`,
    [source ?? null],
  );
  return rows;
}

/** Puts failed keys back to work: these, or all of a source's but the discarded ones. Resolves to how many. */
export async function retryFailures(db: Executor, source: string, keys?: readonly string[]): Promise<number> {
  const rows = await db.query(
    `WITH back AS (
       DELETE FROM freshvec.failure f USING freshvec.space p, freshvec.source s
       WHERE p.id = f.space_id AND s.id = p.source_id AND s.name = $1
         AND CASE WHEN $2::text[] IS NULL THEN NOT f.discarded ELSE f.key = ANY($2) END
       RETURNING f.space_id, f.key, f.tenant
     )
     INSERT INTO freshvec.change (space_id, lane, key, tenant)
     SELECT space_id, ${LANES.interactive}, key, tenant FROM back RETURNING 1`,
    [source, keys ?? null],
  );
  return rows.length;
}

/**
 * Takes failures off the list for good: the text as it is now stays without a vector and is not tried again; an edit
 * of it is. Resolves to how many.
 */
export async function discardFailures(db: Executor, source: string, keys?: readonly string[]): Promise<number> {
  const rows = await db.query(
    `UPDATE freshvec.failure f SET discarded = true FROM freshvec.space p, freshvec.source s
     WHERE p.id = f.space_id AND s.id = p.source_id AND s.name = $1 AND NOT f.discarded
       AND ($2::text[] IS NULL OR f.key = ANY($2))
     RETURNING 1`,
    [source, keys ?? null],
  );
  return rows.length;
}

/** How these keys failed in a space, by key. */
export async function failedAs(
  db: Executor,
  spaceId: number,
  keys: readonly string[],
): Promise<Map<string, { code: string; message: string; hash: string | null }>> {
  if (keys.length === 0) return new Map();
  const rows = await db.query<{ key: string; code: string; message: string; hash: string | null }>(
    `SELECT key, code, message, hash::text AS hash FROM freshvec.failure WHERE space_id = $1 AND key = ANY($2::text[])`,
    [spaceId, keys],
  );
  return new Map(rows.map(({ key, ...failure }) => [key, failure]));
}
