import type { Database, Executor } from '../db/database.js';
import { literal, qualified } from '../db/identifiers.js';
import { longSession } from './index-session.js';
import type { VectorRelation } from './own-index.js';

/**
 * Gives an index that a failed build left a name that no other one ever has, if it still is what the failed build left:
 * DROP INDEX CONCURRENTLY knows a name only, and by the time that it is sent, or a process that was stopped goes on, the
 * name may be that of a valid index which another process has built since.
 */
export function renameInvalidSql(relation: VectorRelation, name: string): string {
  return `DO $freshvec$ DECLARE
  dead record;
BEGIN
  SELECT n.nspname, c.oid INTO dead FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE i.indrelid = ${relation.oid} AND c.relname = ${literal(name)} AND NOT (i.indisvalid AND i.indisready)
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid AND p.datname = current_database());
  IF FOUND THEN
    EXECUTE format('ALTER INDEX %I.%I RENAME TO %I', dead.nspname, ${literal(name)}, ${literal(`${name}_gone_`)} || dead.oid);
  END IF;
END $freshvec$`;
}

/** What `renameInvalidSql` has renamed, now or in a process that was killed since. */
export async function goneIndexes(db: Executor, relation: VectorRelation, name: string): Promise<string[]> {
  const gone = await db.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1::int8::oid AND c.relname = $2 || '_gone_' || c.oid`,
    [relation.oid, name],
  );
  return gone.map((index) => index.name);
}

/** Drops what `goneIndexes` found; somebody may be faster. */
export async function dropGone(db: Database, relation: VectorRelation, gone: readonly string[]): Promise<void> {
  await longSession(db, { lockTimeoutMs: 0 }, async (session) => {
    for (const name of gone) {
      await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(relation.schema, name)}`);
    }
  });
}
