import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { indexedRelation } from './index-state.js';

/** A vector index on one plain table of a space, whoever made it. */
export interface VectorIndex {
  /** Qualified and quoted. */
  readonly name: string;
  readonly bareName: string;
  /** Valid, ready, and of all rows. */
  readonly valid: boolean;
  /** Its operator class, such as `vector_cosine_ops`. */
  readonly operatorClass: string;
}

/** A plain table that holds vectors of a space: the source or freshvec's own table, or a leaf of the source. */
export interface VectorRelation {
  /** Qualified and quoted. */
  readonly name: string;
  readonly indexes: readonly VectorIndex[];
}

/** The operator class that searches of the space need. */
export function operatorClassOf(space: Pick<Space, 'type' | 'metric'>): string {
  return `${space.type}_${space.metric}_ops`;
}

/** Every plain table of a space with its HNSW and IVFFlat indexes. */
export async function vectorRelations(db: Executor, source: Source, space: Space): Promise<VectorRelation[]> {
  const { schema, table, column } = indexedRelation(source, space);
  const rows = await db.query<{
    schema: string;
    name: string;
    index: string | null;
    index_schema: string;
    valid: boolean;
    operator_class: string;
  }>(
    `SELECT n.nspname AS schema, c.relname AS name, x.index, x.index_schema, x.valid, x.operator_class
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN LATERAL (
       SELECT ic.relname AS index, xn.nspname AS index_schema, oc.opcname AS operator_class,
         i.indisvalid AND i.indisready AND i.indpred IS NULL AS valid
       FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_namespace xn ON xn.oid = ic.relnamespace
       JOIN pg_am am ON am.oid = ic.relam JOIN pg_opclass oc ON oc.oid = i.indclass[0]
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
       WHERE i.indrelid = c.oid AND am.amname IN ('hnsw', 'ivfflat') AND a.attname = $2
     ) x ON true
     WHERE c.relkind = 'r' AND (c.oid = to_regclass($1) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))))
     ORDER BY c.oid, x.index`,
    [qualified(schema, table), column],
  );
  const relations = new Map<string, VectorRelation & { indexes: VectorIndex[] }>();
  for (const row of rows) {
    const name = qualified(row.schema, row.name);
    const relation = relations.get(name) ?? { name, indexes: [] };
    relations.set(name, relation);
    if (row.index === null) continue;
    const { valid, operator_class: operatorClass } = row;
    relation.indexes.push({
      name: qualified(row.index_schema, row.index),
      bareName: row.index,
      valid,
      operatorClass,
    });
  }
  return [...relations.values()];
}

/**
 * How the index on the space's vectors stands: `none`, `building` (or left invalid by a build that failed), `valid`: each
 * of its tables has one that searches can use, whoever made it, and whatever else is there beside it.
 */
export async function indexState(db: Executor, source: Source, space: Space): Promise<'none' | 'building' | 'valid'> {
  const relations = await vectorRelations(db, source, space);
  const fits = ({ valid, operatorClass }: VectorIndex) => valid && operatorClass === operatorClassOf(space);
  if (relations.every(({ indexes }) => indexes.some(fits))) return 'valid';
  return relations.some(({ indexes }) => indexes.length > 0) ? 'building' : 'none';
}
