import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { classify } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { longSession } from './index-session.js';
import { NEXT, vectorRelations } from './own-index.js';

/** What somebody else holds is left for the next look. */
const LOCK_MS = 5_000;

/**
 * Drops what a REINDEX CONCURRENTLY that was killed left of an index of freshvec's: `NAME_ccnew`, half built, or
 * `NAME_ccold`, already replaced, with a number where such a name was taken. Each costs every write what an index
 * costs, and serves nobody. Nothing else is touched: not a valid index, not one that somebody works on just now, not
 * one beside another name. Resolves to the names that were dropped.
 */
export async function dropLeftovers(
  db: Database,
  source: Source,
  space: Space,
  signal?: AbortSignal | undefined,
): Promise<string[]> {
  const relations = await vectorRelations(db, source, space);
  const leftovers = await findLeftovers(
    db,
    relations.map(({ oid }) => oid),
    relations.flatMap(({ index }) => [index, index + NEXT]),
  );
  if (leftovers.length === 0) return [];
  const dropped: string[] = [];
  await longSession(db, { lockTimeoutMs: LOCK_MS, signal }, async (session) => {
    for (const { schema, name } of leftovers) {
      try {
        await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(schema, name)}`);
        dropped.push(name);
      } catch (error) {
        if (classify(error) !== 'lock_timeout') throw error;
        signal?.throwIfAborted();
      }
    }
  });
  return dropped;
}

/** A REINDEX that runs holds SHARE UPDATE EXCLUSIVE on the indexes it makes; a DROP that waits has more. */
function findLeftovers(
  db: Executor,
  relations: readonly number[],
  names: readonly string[],
): Promise<{ schema: string; name: string }[]> {
  return db.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_am am ON am.oid = c.relam
     WHERE i.indrelid::int8 = ANY($1::int8[]) AND am.amname = 'hnsw' AND NOT i.indisvalid AND c.relkind = 'i'
       AND c.relname ~ '_cc(new|old)[0-9]*$' AND regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') = ANY($2::text[])
       AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid AND p.datname = current_database())
       AND NOT EXISTS (
         SELECT FROM pg_locks l
         WHERE l.relation = c.oid AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock'))
     ORDER BY 2`,
    [relations, names],
  );
}
