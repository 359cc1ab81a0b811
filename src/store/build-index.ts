import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError, sqlState } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import { briefly, longSession } from './index-session.js';
import { indexedRelation } from './index-state.js';
import { asAsked, NEXT, ownIndexes, type VectorRelation, vectorRelations } from './own-index.js';

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
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  /** Ends a build that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** maintenance_work_mem for the build, such as `1GB`. */
  readonly maintenanceWorkMem?: string | undefined;
  /** max_parallel_maintenance_workers for the build. */
  readonly parallelWorkers?: number | undefined;
  /** Builds it beside the present one, under a name of its own, to take its place (`maintenance/swap-index.ts`). */
  readonly next?: boolean | undefined;
}

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
  const relations = await vectorRelations(db, source, space);
  const nameOf = (relation: VectorRelation) => relation.index + (options.next ? NEXT : '');
  let built = false;
  for (const relation of relations) {
    options.signal?.throwIfAborted();
    const outcome = await ensureOne(db, space, source, relation, nameOf(relation), options);
    if (outcome === 'building') return 'building';
    built ||= outcome === 'built';
    const parent = relations.find(({ oid }) => oid === relation.parent);
    if (parent) await attach(db, parent, nameOf(parent), relation, nameOf(relation));
  }
  return built ? 'built' : 'valid';
}

async function ensureOne(
  db: Database,
  space: Space,
  source: Source,
  relation: VectorRelation,
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
  const outdated = options.next && found && !(await isAsAsked(db, source, space, relation, name));
  // The index of a partitioned parent is valid only once every leaf's is attached.
  if (found && !outdated && (found.valid || relation.partitioned)) return 'valid';
  if (found?.building) return 'building';
  if (!found && !options.next && (await hasEqualIndex(db, relation.oid, column, operatorClass))) return 'valid';
  const extension = await db.vectorExtension();
  const on = `${qualified(relation.schema, relation.name)} USING hnsw (${ident(column)} ${qualified(extension?.schema ?? 'public', operatorClass)})
    WITH (m = ${space.index.m}, ef_construction = ${space.index.efConstruction})`;
  if (relation.partitioned) {
    await briefly(db, `CREATE INDEX ${ident(name)} ON ONLY ${on}`, options.signal);
    return 'built';
  }
  // A time-out would leave an invalid index behind; what the build waits for is reported instead.
  await longSession(db, { lockTimeoutMs: 0, signal: options.signal }, async (session) => {
    await session.query(
      `SELECT set_config('maintenance_work_mem', COALESCE($1, current_setting('maintenance_work_mem')), false),
         set_config('max_parallel_maintenance_workers', COALESCE($2, current_setting('max_parallel_maintenance_workers')), false)`,
      [options.maintenanceWorkMem ?? null, options.parallelWorkers?.toString() ?? null],
    );
    const drop = () => session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(relation.schema, name)}`);
    const create = async () => {
      try {
        await session.query(`CREATE INDEX CONCURRENTLY ${ident(name)} ON ${on}`);
      } catch (error) {
        // Half an index would keep the disk full, for the app too, until somebody comes back to it.
        if (classify(error) === 'disk') await drop().catch(() => {});
        throw error;
      }
    };
    if (found) await drop();
    await watched(db, relation.oid, name, options, async () => {
      try {
        await create();
      } catch (error) {
        if (!lacksSharedMemory(error)) throw error;
        // A parallel build keeps its graph in shared memory; one process alone does without.
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

async function isAsAsked(db: Executor, source: Source, space: Space, relation: VectorRelation, name: string) {
  const found = (await ownIndexes(db, source, space, [relation])).get(name);
  return found !== undefined && asAsked(found, space);
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

async function attach(
  db: Database,
  parent: VectorRelation,
  parentIndex: string,
  leaf: VectorRelation,
  leafIndex: string,
) {
  // Somebody else's index serves in place of ours: how its leaves belong to it is theirs to see to.
  const [both] = await db.query<{ both: boolean }>(
    'SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL AS both',
    [qualified(parent.schema, parentIndex), qualified(leaf.schema, leafIndex)],
  );
  if (!both?.both) return;
  const [attached] = await db.query(
    `SELECT 1 FROM pg_inherits h JOIN pg_index i ON i.indexrelid = h.inhrelid
     WHERE i.indrelid = $1::int8::oid AND h.inhparent = $2::text::regclass`,
    [leaf.oid, qualified(parent.schema, parentIndex)],
  );
  if (attached) return;
  await briefly(
    db,
    `ALTER INDEX ${qualified(parent.schema, parentIndex)} ATTACH PARTITION ${qualified(leaf.schema, leafIndex)}`,
  );
}

/** Runs a build and reports its progress, and whom it waits for, from another connection. */
export async function watched(
  db: Database,
  relation: number,
  index: string,
  { onProgress }: Pick<BuildOptions, 'onProgress'>,
  build: () => Promise<unknown>,
): Promise<void> {
  // The embedded database has one connection, which is busy building.
  if (!onProgress || db.kind === 'pglite') return void (await build());
  const timer = setInterval(() => {
    progress(db, relation, index).then(
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
    `SELECT phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END AS done,
       CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END AS total,
       NULLIF(current_locker_pid, 0)::int8 AS pid
     FROM pg_stat_progress_create_index WHERE relid = $1::int8::oid`,
    [relation],
  );
  return row && { index, phase: row.phase, done: row.done, total: row.total, waitsForPid: row.pid ?? undefined };
}
