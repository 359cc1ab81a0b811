import type { Executor } from '../db/database.js';

/** What the app has on a table that freshvec's UPDATEs and new columns would meet. */
export interface Hazards {
  /** Enabled UPDATE triggers of the app's own, by name. */
  readonly updateTriggers: readonly string[];
  /** Publications that would send new columns to subscribers which do not have them. */
  readonly publications: readonly string[];
  /** Publications FOR ALL TABLES, which take in freshvec's own tables too. */
  readonly allTables: readonly string[];
}

/** Enabled UPDATE triggers of the app's own on a table and its partitions, by name. */
export async function readUpdateTriggers(db: Executor, oid: number): Promise<string[]> {
  const triggers = await db.query<{ name: string }>(
    `SELECT DISTINCT t.tgname AS name FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))
       AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 16 = 16
       AND p.pronamespace IS DISTINCT FROM to_regnamespace('freshvec')
     ORDER BY 1`,
    [oid],
  );
  return triggers.map(({ name }) => name);
}

export async function readHazards(db: Executor, oid: number): Promise<Hazards> {
  const publications = await db.query<{ name: string; all_tables: boolean }>(
    `WITH related AS (
       SELECT $1::oid AS oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)
       UNION SELECT relid FROM pg_partition_ancestors($1::oid::regclass))
     SELECT p.pubname AS name, p.puballtables AS all_tables FROM pg_publication p
     WHERE p.puballtables
        OR EXISTS (SELECT FROM pg_publication_rel r
                   WHERE r.prpubid = p.oid AND r.prattrs IS NULL AND r.prrelid IN (SELECT oid FROM related))
        OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_class c ON c.relnamespace = s.pnnspid
                   WHERE s.pnpubid = p.oid AND c.oid IN (SELECT oid FROM related))
     ORDER BY 1`,
    [oid],
  );
  return {
    updateTriggers: await readUpdateTriggers(db, oid),
    publications: publications.map(({ name }) => name),
    allTables: publications.filter((p) => p.all_tables).map(({ name }) => name),
  };
}
