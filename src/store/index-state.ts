import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/** The name under which freshvec owns a space's index (and, with a suffix, those of a partitioned source's leaves). */
export function indexName(space: Pick<Space, 'id'>): string {
  return `freshvec_space_${space.id}`;
}

/** Schema and name of the relation that a space's index is on. */
export function indexedRelation(
  source: Pick<Source, 'relation'>,
  space: Space,
): { schema: string; table: string; column: string } {
  return space.store === 'column'
    ? { schema: source.relation.schema, table: source.relation.table, column: space.column }
    : { schema: 'freshvec', table: `vector_${space.id}`, column: 'embedding' };
}

/**
 * Which writes of a space go into a vector index, valid or not: `none`, `each`, or those of rows that move to another
 * page (`moved`): on the source's rows a new version that does not stay on its page goes into every index of the table,
 * that of another space's vectors included.
 */
export type IndexCost = 'none' | 'moved' | 'each';

/** What writes of the space pay for at present. */
export async function indexCost(db: Executor, source: Pick<Source, 'relation'>, space: Space): Promise<IndexCost> {
  const { schema, table, column } = indexedRelation(source, space);
  const [row] = await db.query<{ cost: IndexCost }>(
    `SELECT CASE WHEN count(*) = 0 THEN 'none' WHEN bool_or(x.own) THEN 'each' ELSE 'moved' END AS cost FROM (
       SELECT EXISTS (
           SELECT FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
           WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND a.attname = $3) AS own
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_index i ON i.indrelid = c.oid OR i.indrelid IN (SELECT relid FROM pg_partition_tree(c.oid))
       JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
       WHERE n.nspname = $1 AND c.relname = $2 AND am.amname IN ('hnsw', 'ivfflat')) x`,
    [schema, table, column],
  );
  return row?.cost ?? 'none';
}
