import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { literal } from '../db/identifiers.js';
import { vectorTable } from '../store/table.js';
import { operatorClassOf } from '../store/vector-indexes.js';

/** pgvector's default is 20,000. To visit 60,000 rows of 64 dimensions took 0.2 s here; what is farther is for the exact search. */
const MAX_SCAN_TUPLES = 50_000;
/** Of work_mem. pgvector's default is 1, which ended that scan after 20,000 rows at 4 MB. */
const SCAN_MEM_MULTIPLIER = 4;

/** Rows from which on a whole table of vectors is not worth reading for one search. */
const LARGE_ROWS = 10_000;

/** NULL where nobody has set it and the session has not loaded pgvector yet. */
const current = (name: string) => `NULLIF(pg_catalog.current_setting('${name}', true), '')`;

/**
 * A select list that sets how far an HNSW index is scanned until the transaction ends; `$1` is `hnsw.ef_search`. The
 * scan goes on until k rows are found or a limit is reached, which is higher where the role or the database has it so.
 * migrations/0003_search.sql has the same numbers.
 */
export const SCAN_SETTINGS = `set_config('hnsw.ef_search', $1, true), set_config('hnsw.iterative_scan', 'relaxed_order', true),
  set_config('hnsw.max_scan_tuples', greatest(${MAX_SCAN_TUPLES}, ${current('hnsw.max_scan_tuples')}::int)::text, true),
  set_config('hnsw.scan_mem_multiplier',
    greatest(${SCAN_MEM_MULTIPLIER}, ${current('hnsw.scan_mem_multiplier')}::float8)::text, true)`;

/**
 * For the same list: leaves the vector index of a large table of vectors as the way to go, until the transaction ends. Most
 * vectors are kept out of line (TOAST), and the planner, which does not count that, takes such a table for a small one:
 * at 100,000 rows of 768 dimensions it read all of them. Not under row-level security: a policy may read what has no index.
 * migrations/0003_search.sql does the same.
 */
export function withoutSeqScan(source: Source, space: Space): string {
  const table = `${literal(vectorTable(space))}::regclass`;
  return `set_config('enable_seqscan', (
    SELECT 'off' FROM pg_catalog.pg_class c WHERE c.oid = ${table} AND c.reltuples >= ${LARGE_ROWS}
      AND NOT pg_catalog.row_security_active(${literal(fromSource(source))}::regclass)
      AND EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am a ON a.oid = x.relam JOIN pg_catalog.pg_opclass oc ON oc.oid = i.indclass[0]
        WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.amname IN ('hnsw', 'ivfflat')
          AND oc.opcname = ${literal(operatorClassOf(space))})), true)`;
}

/** For the same list: takes that back. */
export const WITH_SEQ_SCAN = `set_config('enable_seqscan', NULL, true)`;
