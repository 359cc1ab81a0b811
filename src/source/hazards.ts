import type { Executor } from '../db/database.js';

/** What the app has on a table that freshvec's UPDATEs and new columns would meet. */
export interface Hazards {
  /** UPDATE triggers of the app's own that writing a vector onto a row fires, by name. */
  readonly updateTriggers: readonly string[];
  /** Publications that would send new columns to subscribers which do not have them. */
  readonly publications: readonly string[];
  /** Publications FOR ALL TABLES, which take in freshvec's own tables too. */
  readonly allTables: readonly string[];
}

/**
 * UPDATE triggers of the app's own that freshvec's UPDATEs of a table and its partitions fire, by name. PostgreSQL goes by
 * what a statement sets: one with a list of columns fires where freshvec's are among them. A generated column counts as
 * set, since it does for PostgreSQL on a table that has a BEFORE UPDATE trigger, such as the flag's.
 * @param columns that freshvec is going to set, beside those that it has
 */
export async function readUpdateTriggers(
  db: Executor,
  oid: number,
  columns: readonly string[] = [],
): Promise<string[]> {
  const triggers = await db.query<{ name: string }>(
    `SELECT DISTINCT t.tgname AS name FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))
       AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16 = 16
       AND p.pronamespace IS DISTINCT FROM to_regnamespace('freshvec')
       AND (cardinality(t.tgattr::int2[]) = 0 OR EXISTS (
         SELECT FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY(t.tgattr::int2[])
           AND (a.attgenerated <> '' OR a.attname::text = ANY($2::text[])
             OR a.attname::text IN (SELECT column_name FROM freshvec.own_columns($1::oid)))))
     ORDER BY 1`,
    [oid, columns],
  );
  return triggers.map(({ name }) => name);
}

/** `columns`: that freshvec is going to set, beside those that it has. */
export async function readHazards(db: Executor, oid: number, columns: readonly string[] = []): Promise<Hazards> {
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
    updateTriggers: await readUpdateTriggers(db, oid, columns),
    publications: publications.map(({ name }) => name),
    allTables: publications.filter((p) => p.all_tables).map(({ name }) => name),
  };
}
