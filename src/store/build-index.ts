import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import { ident, literal, qualified } from '../db/identifiers.js';
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
type IndexRow = { valid: boolean; definition: string; relation: number; fits: boolean };

const PROGRESS_MS = 500;

/**
 * Ensures the space's vector index, built concurrently: reads the catalog, mends what a failed build left (invalid, and
 * under a name that freshvec owns), builds what is missing. Safe to run again at any time; the caller sees to it that
 * only one process does so per table. Resolves to `building` when another session builds an index of the table just now.
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
  const operatorClass = `${space.type}_${space.metric}_ops`;
  const found = await findIndex(db, relation.schema, name, column, operatorClass);
  if (found && (found.relation !== relation.oid || !found.fits)) {
    throw new FreshvecError(
      'index_taken',
      `There is an index ${relation.schema}.${name} that is not the one freshvec needs: ${found.definition}. Rename or drop it.`,
    );
  }
  // The index of a partitioned parent is valid only once every leaf's is attached.
  if (found && relation.partitioned) return 'valid';
  const gone = relation.partitioned ? [] : await goneIndexes(db, relation, name);
  if (found?.valid && gone.length === 0) return 'valid';
  // Ours, or somebody's on the same table: who queues behind a build holds a snapshot that the build will wait for.
  if (!relation.partitioned && (await isBuilding(db, relation))) return 'building';
  if (gone.length > 0) await dropGone(db, relation, gone);
  if (found?.valid) return 'valid';
  if (!found && (await hasEqualIndex(db, relation.oid, column, operatorClass))) return 'valid';
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
    // A build that queues behind this one holds a snapshot that this one waits for at its end. PostgreSQL ends whichever of
    // the two asks first: where the role may say so, ours, which is tried again, and not the app's.
    await session.query(
      `SELECT set_config('deadlock_timeout', '100ms', false) WHERE has_parameter_privilege('deadlock_timeout', 'SET')`,
    );
    const drop = async () => {
      await session.query(renameInvalidSql(relation, name));
      await dropGone(db, relation, await goneIndexes(db, relation, name));
    };
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

/**
 * Gives an index that a failed build left a name that no other one ever has, if it still is what the failed build left:
 * DROP INDEX CONCURRENTLY knows a name only, and by the time that it is sent, or a process that was stopped goes on, the
 * name may be that of a valid index which another process has built since.
 */
function renameInvalidSql(relation: Relation, name: string): string {
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
async function goneIndexes(db: Executor, relation: Relation, name: string): Promise<string[]> {
  const gone = await db.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1::int8::oid AND c.relname = $2 || '_gone_' || c.oid`,
    [relation.oid, name],
  );
  return gone.map((index) => index.name);
}

async function isBuilding(db: Executor, relation: Relation): Promise<boolean> {
  const builds = await db.query(
    `SELECT FROM pg_stat_progress_create_index WHERE relid = $1::int8::oid AND datname = current_database()`,
    [relation.oid],
  );
  return builds.length > 0;
}

async function dropGone(db: Database, relation: Relation, gone: readonly string[]): Promise<void> {
  await db.session(async (session) => {
    await session.query('SET lock_timeout = 0');
    await session.query('SET statement_timeout = 0');
    for (const name of gone) {
      await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(relation.schema, name)}`);
    }
  });
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
       am.amname = 'hnsw' AND oc.opcname = $4 AND a.attname = $3 AS fits
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_am am ON am.oid = c.relam JOIN pg_opclass oc ON oc.oid = i.indclass[0]
     LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE n.nspname = $1 AND c.relname = $2`,
    [schema, name, column, operatorClass],
  );
  return row;
}

/** A valid HNSW index of somebody else's on the same column with the same operator class serves as well. */
async function hasEqualIndex(db: Executor, relation: number, column: string, operatorClass: string): Promise<boolean> {
  const rows = await db.query(
    `SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
     JOIN pg_opclass oc ON oc.oid = i.indclass[0] JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE i.indrelid = $1::int8::oid AND i.indisvalid AND i.indpred IS NULL AND am.amname = 'hnsw'
       AND oc.opcname = $3 AND a.attname = $2`,
    [relation, column, operatorClass],
  );
  return rows.length > 0;
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
     FROM pg_stat_progress_create_index WHERE relid = $1::int8::oid AND datname = current_database()`,
    [relation],
  );
  return row && { index, phase: row.phase, done: row.done, total: row.total, waitsForPid: row.pid ?? undefined };
}
