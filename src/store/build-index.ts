import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import { indexedRelation, indexName } from './index-state.js';

/** What a build waits for or works on, for people to read. */
export interface BuildProgress {
  readonly index: string;
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  /** Backend whose transaction holds the build up; undefined while it is not held up. */
  readonly waitsForPid: number | undefined;
}

export interface BuildOptions {
  readonly onProgress?: (progress: BuildProgress) => void;
  /** Ends a build that is under way. */
  readonly signal?: AbortSignal;
  /** maintenance_work_mem for the build, such as `1GB`. */
  readonly maintenanceWorkMem?: string | undefined;
  /** max_parallel_maintenance_workers for the build. */
  readonly parallelWorkers?: number | undefined;
}

type Relation = { oid: number; schema: string; name: string; parent: number | null; partitioned: boolean };
type IndexRow = { valid: boolean; definition: string; building: boolean; relation: number; fits: boolean };

const PROGRESS_MS = 500;

/**
 * Ensures the space's vector index, built concurrently: reads the catalog, mends what a failed build left (invalid, and
 * under a name that freshvec owns), builds what is missing. Safe to run again at any time; the caller sees to it that
 * only one process does so per table. Resolves to `building` when another session is building it just now.
 */
export async function ensureIndex(
  db: Database,
  source: Source,
  space: Space,
  options: BuildOptions = {},
): Promise<'none' | 'valid' | 'built' | 'building'> {
  if (space.index.kind === 'none') return 'none';
  const { schema, table } = indexedRelation(source, space);
  const relations = await db.query<Relation>(
    `SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, i.inhparent::int8 AS parent, c.relkind = 'p' AS partitioned
     FROM pg_partition_tree($1::text::regclass) t JOIN pg_class c ON c.oid = t.relid
     JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND t.level > 0
     UNION SELECT c.oid::int8, n.nspname, c.relname, NULL, false FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1::text::regclass AND c.relkind = 'r' AND NOT c.relispartition
     ORDER BY partitioned DESC, oid`,
    [qualified(schema, table)],
  );
  const root = relations.find((relation) => relation.parent === null);
  if (!root)
    throw new FreshvecError('relation_gone', `The table ${schema}.${table} of source "${source.name}" is gone.`);
  const names = new Map(relations.map((r) => [r.oid, r === root ? indexName(space) : `${indexName(space)}_${r.oid}`]));
  // On a partitioned table such an index has a valid one below it in every partition.
  if (
    !(await findIndex(db, root.schema, indexName(space), indexedRelation(source, space).column, operatorClassOf(space)))
  ) {
    const { serving } = await listVectorIndexes(db, source, space);
    if (serving.length > 0) return 'valid';
  }
  let built = false;
  for (const relation of relations) {
    options.signal?.throwIfAborted();
    const name = names.get(relation.oid) ?? indexName(space);
    const outcome = await ensureOne(db, space, source, relation, name, options);
    if (outcome === 'building') return 'building';
    built ||= outcome === 'built';
    const parent = relation.parent === null ? undefined : relations.find((r) => r.oid === relation.parent);
    if (parent) await attach(db, parent, names.get(parent.oid) ?? '', relation, name);
  }
  return built ? 'built' : 'valid';
}

async function ensureOne(
  db: Database,
  space: Space,
  source: Source,
  relation: Relation,
  name: string,
  options: BuildOptions,
): Promise<'valid' | 'built' | 'building'> {
  const { column } = indexedRelation(source, space);
  const operatorClass = operatorClassOf(space);
  const found = await findIndex(db, relation.schema, name, column, operatorClass);
  if (found && (found.relation !== relation.oid || !found.fits)) {
    throw new FreshvecError(
      'index_taken',
      `There is an index ${relation.schema}.${name} that is not the one freshvec needs: ${found.definition}. Rename or drop it.`,
    );
  }
  // The index of a partitioned parent is valid only once every leaf's is attached.
  if (found && (found.valid || relation.partitioned)) return 'valid';
  if (found?.building) return 'building';
  const extension = await db.vectorExtension();
  const on = `${qualified(relation.schema, relation.name)} USING hnsw (${ident(column)} ${qualified(extension?.schema ?? 'public', operatorClass)})
    WITH (m = ${space.index.m}, ef_construction = ${space.index.efConstruction})`;
  if (relation.partitioned) {
    await db.query(`CREATE INDEX ${ident(name)} ON ONLY ${on}`);
    return 'built';
  }
  await db.session(async (session) => {
    // A time-out would leave an invalid index behind; what the build waits for is reported instead.
    await session.query(`SET lock_timeout = 0`);
    await session.query(`SET statement_timeout = 0`);
    // PostgreSQL 17 on: it would end the connection in mid-build.
    await session.query(
      `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')`,
    );
    await session.query(
      `SELECT set_config('maintenance_work_mem', COALESCE($1, current_setting('maintenance_work_mem')), false),
         set_config('max_parallel_maintenance_workers', COALESCE($2, current_setting('max_parallel_maintenance_workers')), false)`,
      [options.maintenanceWorkMem ?? null, options.parallelWorkers?.toString() ?? null],
    );
    const drop = () => session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(relation.schema, name)}`);
    const create = () => cancellable(db, session, options.signal, `CREATE INDEX CONCURRENTLY ${ident(name)} ON ${on}`);
    if (found) await drop();
    await watched(db, relation, name, options, async () => {
      try {
        await create();
      } catch (error) {
        if (!lacksSharedMemory(error)) throw error;
        // A parallel build keeps its graph in shared memory; one process alone does without.
        await drop();
        await session.query('SET max_parallel_maintenance_workers = 0');
        await create();
      }
    });
  });
  return 'built';
}

/** "could not resize shared memory segment … No space left on device": /dev/shm, not the disk. */
function lacksSharedMemory(error: unknown): boolean {
  return sqlState(error) === '53100' && error instanceof Error && error.message.includes('shared memory');
}

/** Runs a statement that ends when `signal` aborts, and then throws its reason. */
async function cancellable(
  db: Database,
  session: Executor,
  signal: AbortSignal | undefined,
  sql: string,
): Promise<void> {
  signal?.throwIfAborted();
  // The embedded database has one connection: there is nobody to cancel it from.
  if (!signal || db.kind === 'pglite') return void (await session.query(sql));
  const [backend] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const cancel = () => {
    db.query('SELECT pg_cancel_backend($1)', [backend?.pid]).catch(() => {});
  };
  signal.addEventListener('abort', cancel);
  try {
    await session.query(sql);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

async function findIndex(
  db: Executor,
  schema: string,
  name: string,
  column: string,
  operatorClass: string,
): Promise<IndexRow | undefined> {
  const [row] = await db.query<IndexRow>(
    `SELECT i.indisvalid AND i.indisready AS valid, pg_get_indexdef(i.indexrelid) AS definition, i.indrelid::int8 AS relation,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) AS building,
       am.amname = 'hnsw' AND oc.opcname = $4 AND a.attname = $3 AS fits
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_am am ON am.oid = c.relam JOIN pg_opclass oc ON oc.oid = i.indclass[0]
     LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE n.nspname = $1 AND c.relname = $2`,
    [schema, name, column, operatorClass],
  );
  return row;
}

/** An index on a space's vectors, as its definition calls it. */
export interface VectorIndex {
  readonly name: string;
  /** `hnsw`, `ivfflat` */
  readonly method: string;
  /** `vector_cosine_ops`, … */
  readonly operatorClass: string;
}

/**
 * The vector indexes on a space's column, whoever made them. `serving`: a valid HNSW index over all rows with the space's
 * operator class, which serves as well as one of ours.
 */
export async function listVectorIndexes(
  db: Executor,
  source: Source,
  space: Space,
): Promise<{ serving: VectorIndex[]; others: VectorIndex[] }> {
  const { schema, table, column } = indexedRelation(source, space);
  const rows = await db.query<{ name: string; method: string; operatorClass: string; whole: boolean }>(
    `SELECT c.relname AS name, am.amname AS method, oc.opcname AS "operatorClass", i.indisvalid AND i.indpred IS NULL AS whole
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
     JOIN pg_opclass oc ON oc.oid = i.indclass[0] JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE i.indrelid = to_regclass($1::text) AND am.amname IN ('hnsw', 'ivfflat') AND a.attname = $2 ORDER BY c.relname`,
    [qualified(schema, table), column],
  );
  const serves = (row: (typeof rows)[number]) =>
    row.whole && row.method === 'hnsw' && row.operatorClass === operatorClassOf(space);
  const toIndex = ({ name, method, operatorClass }: VectorIndex) => ({ name, method, operatorClass });
  return { serving: rows.filter(serves).map(toIndex), others: rows.filter((row) => !serves(row)).map(toIndex) };
}

/** `vector_cosine_ops` */
export function operatorClassOf({ type, metric }: Pick<Space, 'type' | 'metric'>): string {
  return `${type}_${metric}_ops`;
}

async function attach(db: Database, parent: Relation, parentIndex: string, leaf: Relation, leafIndex: string) {
  const [attached] = await db.query(
    `SELECT 1 FROM pg_inherits h JOIN pg_index i ON i.indexrelid = h.inhrelid
     WHERE i.indrelid = $1::int8::oid AND h.inhparent = $2::text::regclass`,
    [leaf.oid, qualified(parent.schema, parentIndex)],
  );
  if (attached) return;
  await db.query(
    `ALTER INDEX ${qualified(parent.schema, parentIndex)} ATTACH PARTITION ${qualified(leaf.schema, leafIndex)}`,
  );
}

/** Runs a build and reports its progress, and whom it waits for, from another connection. */
async function watched(
  db: Database,
  relation: Relation,
  index: string,
  { onProgress }: BuildOptions,
  build: () => Promise<unknown>,
): Promise<void> {
  // The embedded database has one connection, which is busy building.
  if (!onProgress || db.kind === 'pglite') return void (await build());
  const timer = setInterval(() => {
    progress(db, relation.oid, index).then(
      (now) => now && onProgress(now),
      () => {},
    );
  }, PROGRESS_MS);
  try {
    await build();
  } finally {
    clearInterval(timer);
  }
}

async function progress(db: Executor, relation: number, index: string): Promise<BuildProgress | undefined> {
  const [row] = await db.query<{ phase: string; done: number; total: number; pid: number | null }>(
    `SELECT phase, GREATEST(blocks_done, tuples_done) AS done, GREATEST(blocks_total, tuples_total) AS total,
       NULLIF(current_locker_pid, 0)::int8 AS pid
     FROM pg_stat_progress_create_index WHERE relid = $1::int8::oid`,
    [relation],
  );
  return row && { index, phase: row.phase, done: row.done, total: row.total, waitsForPid: row.pid ?? undefined };
}
