import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { indexedRelation, indexName } from './index-state.js';

/** A table that holds vectors of a space, or the partitioned one above it. */
export interface VectorRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly parent: number | null;
  /** Has an index in the catalog only; the vectors are in its leaves. */
  readonly partitioned: boolean;
  /** The name under which freshvec owns its index. */
  readonly index: string;
}

/** An index under a name of freshvec's own, on the relation and column where it belongs. */
export interface OwnIndex {
  /** Another one after a rebuild. */
  readonly oid: number;
  readonly name: string;
  readonly relation: VectorRelation;
  readonly valid: boolean;
  readonly bytes: number;
  /** As `CREATE INDEX` was told; undefined where it was told nothing. */
  readonly m: number | undefined;
  readonly efConstruction: number | undefined;
}

/** Ends the name of the index that is to take the place of the present one. */
export const NEXT = '_next';

/** The relations of a space's vectors, parents before their partitions. Throws FreshvecError `relation_gone`. */
export async function vectorRelations(db: Executor, source: Source, space: Space): Promise<VectorRelation[]> {
  const { schema, table } = indexedRelation(source, space);
  const relations = await db.query<Omit<VectorRelation, 'index'>>(
    `SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, i.inhparent::int8 AS parent, c.relkind = 'p' AS partitioned
     FROM pg_partition_tree(to_regclass($1)) t JOIN pg_class c ON c.oid = t.relid
     JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND t.level > 0
     UNION SELECT c.oid::int8, n.nspname, c.relname, NULL, false FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = to_regclass($1) AND c.relkind = 'r' AND NOT c.relispartition
     ORDER BY partitioned DESC, oid`,
    [qualified(schema, table)],
  );
  const root = relations.find((relation) => relation.parent === null);
  if (!root)
    throw new FreshvecError('relation_gone', `The table ${schema}.${table} of source "${source.name}" is gone.`);
  return relations.map((r) => ({ ...r, index: r === root ? indexName(space) : `${indexName(space)}_${r.oid}` }));
}

/** The indexes of these relations that are under names of freshvec's own, by name; a stranger under such a name is not. */
export async function ownIndexes(
  db: Executor,
  source: Source,
  space: Space,
  relations: readonly VectorRelation[],
): Promise<Map<string, OwnIndex>> {
  const { column } = indexedRelation(source, space);
  const rows = await db.query<
    Omit<OwnIndex, 'relation' | 'm' | 'efConstruction'> & { relation: number; options: string[] }
  >(
    `SELECT c.oid::int8 AS oid, c.relname AS name, i.indrelid::int8 AS relation, i.indisvalid AND i.indisready AND i.indislive AS valid,
       pg_relation_size(c.oid) AS bytes, COALESCE(c.reloptions, '{}') AS options
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE i.indrelid::int8 = ANY($1::int8[]) AND am.amname = 'hnsw' AND a.attname = $2`,
    [relations.map(({ oid }) => oid), column],
  );
  const found = new Map<string, OwnIndex>();
  for (const { relation: oid, options, ...row } of rows) {
    const relation = relations.find((one) => one.oid === oid);
    if (!relation || (row.name !== relation.index && row.name !== relation.index + NEXT)) continue;
    found.set(row.name, {
      ...row,
      relation,
      m: option(options, 'm'),
      efConstruction: option(options, 'ef_construction'),
    });
  }
  return found;
}

/** Whether an index was made with the parameters that its space asks for. */
export function asAsked(
  index: Pick<OwnIndex, 'm' | 'efConstruction'>,
  { index: wanted }: Pick<Space, 'index'>,
): boolean {
  return (index.m ?? 16) === wanted.m && (index.efConstruction ?? 64) === wanted.efConstruction; // pgvector's defaults
}

function option(options: readonly string[], name: string): number | undefined {
  const found = options.find((text) => text.startsWith(`${name}=`));
  return found === undefined ? undefined : Number(found.slice(name.length + 1));
}
