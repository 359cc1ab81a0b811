/** pgvector's default is 20,000. To visit 60,000 rows of 64 dimensions took 0.2 s here; what is farther is for the exact search. */
const MAX_SCAN_TUPLES = 50_000;
/** Of work_mem. pgvector's default is 1, which ended that scan after 20,000 rows at 4 MB. */
const SCAN_MEM_MULTIPLIER = 4;

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
