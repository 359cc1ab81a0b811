import type { Source } from '../../catalog/source.js';
import type { Executor } from '../../db/database.js';
import { RELATIONS } from '../throttle/signals/relations.js';

/** The source's table, all its partitions taken together. */
export interface TableFacts {
  readonly partitions: number;
  /** Bytes of the rows themselves, without TOAST. */
  readonly heapBytes: number;
  /** As ANALYZE or VACUUM last counted them; 0 where neither did. */
  readonly rows: number;
  /** Part of the rows that is in the largest partition: 1 for a table without any. */
  readonly largestShare: number;
  /** Mean bytes of a row's values within the row; undefined where a column was never analysed. */
  readonly analysedRowBytes: number | undefined;
  /** Mean bytes of the values of a key within the row; undefined where they were never analysed. */
  readonly keyBytes: number | undefined;
  readonly columns: number;
  /** Columns that the table ever had: a dropped one keeps its place for ever. */
  readonly columnPlaces: number;
  /** The lowest of its partitions. */
  readonly fillfactor: number;
  readonly updates: number;
  readonly hotUpdates: number;
  /** HNSW and IVFFlat indexes on it, by name. */
  readonly vectorIndexes: readonly string[];
  /** Bytes of the vectors that one row has in them. */
  readonly indexedVectorBytes: number;
  readonly otherIndexes: number;
}

type Row = Omit<TableFacts, 'analysedRowBytes' | 'keyBytes'> & {
  analysedRowBytes: number | null;
  keyBytes: number | null;
};

/** Reads the catalog and PostgreSQL's statistics, no row of the table. */
export async function readTableFacts(db: Executor, { relation, key }: Source): Promise<TableFacts> {
  const [row] = await db.query<Row>(
    `${RELATIONS}, leaf AS (
       SELECT c.oid, c.relnatts, GREATEST(c.reltuples, 0) AS rows, pg_relation_size(c.oid) AS bytes,
         COALESCE((SELECT option_value::int FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100) AS fillfactor
       FROM rel JOIN pg_class c USING (oid) WHERE c.relkind = 'r'
     ), width AS (
       -- Of a value that is out of line: of its pointer.
       SELECT count(*) AS columns, count(s.avg_width) = count(*) AS analysed, sum(s.avg_width * (1 - s.null_frac)) AS row,
         sum(s.avg_width) FILTER (WHERE a.attname = ANY($2::text[])) AS key
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
         AND s.inherited = (c.relkind = 'p')
       WHERE a.attrelid = ($1::oid[])[1] AND a.attnum > 0 AND NOT a.attisdropped
     ), idx AS (
       SELECT i.relname AS name, am.amname IN ('hnsw', 'ivfflat') AS vectors,
         8 + GREATEST(a.atttypmod, 0) * CASE t.typname WHEN 'halfvec' THEN 2 ELSE 4 END AS bytes
       FROM leaf JOIN pg_index x ON x.indrelid = leaf.oid JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam
       JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum = 1 JOIN pg_type t ON t.oid = a.atttypid
     )
     SELECT (SELECT count(*) FROM rel)::int - 1 AS partitions, sum(bytes)::float8 AS "heapBytes", sum(rows)::float8 AS rows,
       COALESCE(max(bytes)::float8 / NULLIF(sum(bytes), 0), 1)::float8 AS "largestShare",
       (SELECT CASE WHEN analysed THEN row END FROM width)::float8 AS "analysedRowBytes",
       (SELECT key FROM width)::float8 AS "keyBytes", (SELECT columns FROM width)::int AS columns,
       max(relnatts)::int AS "columnPlaces", min(fillfactor)::int AS fillfactor,
       COALESCE(sum(pg_stat_get_tuples_updated(oid)), 0)::float8 AS updates,
       COALESCE(sum(pg_stat_get_tuples_hot_updated(oid)), 0)::float8 AS "hotUpdates",
       ARRAY(SELECT name::text FROM idx WHERE vectors ORDER BY 1) AS "vectorIndexes",
       (COALESCE((SELECT sum(bytes) FROM idx WHERE vectors), 0) / GREATEST(count(*), 1))::float8 AS "indexedVectorBytes",
       ((SELECT count(*) FROM idx WHERE NOT vectors) / GREATEST(count(*), 1))::int AS "otherIndexes"
     FROM leaf`,
    [[relation.oid], key.map(({ name }) => name)],
  );
  if (!row) throw new TypeError('the catalog gave no row');
  return { ...row, analysedRowBytes: row.analysedRowBytes ?? undefined, keyBytes: row.keyBytes ?? undefined };
}
