import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import { findBuild } from '../db/index-builds.js';
import { type BuildProgress, watched } from './build-progress.js';
import { recordBuild } from './build-record.js';
import { dropGone, goneIndexes, renameInvalidSql } from './gone-index.js';
import { briefly, longSession } from './index-session.js';
import { indexedRelation } from './index-state.js';
import { asAsked, NEXT, ownIndexes, type VectorRelation, vectorRelations } from './own-index.js';
import { buildInParallel } from './parallel-build.js';
import { operatorClassOf } from './vector-indexes.js';

export interface BuildOptions {
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  /** Called on the build's own connection right before CREATE INDEX is sent; what it throws keeps it from that. */
  readonly beforeBuild?: ((session: Executor) => Promise<void>) | undefined;
  /** Called once the index of one table is built: of each partition's. */
  readonly afterBuild?: (() => Promise<void>) | undefined;
  /** Ends a build that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** maintenance_work_mem for the build, such as `1GB`. */
  readonly maintenanceWorkMem?: string | undefined;
  /** max_parallel_maintenance_workers for the build. */
  readonly parallelWorkers?: number | undefined;
  /** Builds it beside the present one, under a name of its own, to take its place (`maintenance/swap-index.ts`). */
  readonly next?: boolean | undefined;
}

type IndexRow = { valid: boolean; definition: string; relation: number; fits: boolean };

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
  const relations = await vectorRelations(db, source, space);
  const nameOf = (relation: VectorRelation) => relation.index + (options.next ? NEXT : '');
  const served = !options.next && (await isServed(db, source, space, relations));
  let built = false;
  for (const relation of relations) {
    options.signal?.throwIfAborted();
    const parent = relations.find(({ oid }) => oid === relation.parent);
    if (parent) await takeName(db, space, relation, await attachedTo(db, relation, parent, nameOf(parent)), options);
    const outcome = await ensureOne(db, space, source, relation, nameOf(relation), served, options);
    if (outcome === 'building') return 'building';
    built ||= outcome === 'built';
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
  served: boolean,
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
  const outdated = options.next && found && !(await isAsAsked(db, source, space, relation, name));
  // The index of a partitioned parent is valid only once every leaf's is attached.
  if (found && !outdated && relation.partitioned) return 'valid';
  const gone = relation.partitioned ? [] : await goneIndexes(db, relation, name);
  if (found?.valid && !outdated && gone.length === 0) return 'valid';
  // Ours, or somebody's on the same table: who queues behind a build holds a snapshot that the build will wait for.
  if (!relation.partitioned && (await findBuild(db, [relation.oid])) !== undefined) return 'building';
  if (gone.length > 0) await dropGone(db, relation, gone);
  if (found?.valid && !outdated) return 'valid';
  if (!found && served) return 'valid';
  const extension = await db.vectorExtension();
  const on = indexOnSql(space, qualified(relation.schema, relation.name), column, extension?.schema ?? 'public');
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
    // A build that queues behind this one holds a snapshot that this one waits for at its end. PostgreSQL ends whichever of
    // the two asks first: where the role may say so, ours, which is tried again, and not the app's.
    await session.query(
      `SELECT set_config('deadlock_timeout', '100ms', false) WHERE has_parameter_privilege('deadlock_timeout', 'SET')`,
    );
    const drop = async () => {
      if (outdated && found.valid) {
        await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${qualified(relation.schema, name)}`);
        return;
      }
      await session.query(renameInvalidSql(relation, name));
      await dropGone(db, relation, await goneIndexes(db, relation, name));
    };
    const create = async () => {
      await options.beforeBuild?.(session);
      try {
        await session.query(`CREATE INDEX CONCURRENTLY ${ident(name)} ON ${on}`);
      } catch (error) {
        // Half an index would keep the disk full, for the app too, until somebody comes back to it.
        if (classify(error) === 'disk') await drop().catch(() => {});
        throw error;
      }
    };
    if (found) await drop();
    await watched(db, relation.oid, name, options, () => buildInParallel(session, create));
  });
  // One that is to take another's place is compared with itself once it has.
  if (!options.next) await recordBuild(db, space, relation, name);
  await options.afterBuild?.();
  return 'built';
}

/**
 * Drops what a build of ours that failed left: not valid, and every edit of a row pays for it all the same. Waits for
 * the transactions that use the table.
 */
export async function dropHalfBuilt(db: Database, source: Source, space: Space): Promise<void> {
  const leaves = (await vectorRelations(db, source, space)).filter(({ partitioned }) => !partitioned);
  for (const leaf of leaves) {
    // To queue behind it would end it; whoever builds ours the next time drops this.
    if ((await findBuild(db, [leaf.oid])) !== undefined) continue;
    await db.query(renameInvalidSql(leaf, leaf.index));
    await dropGone(db, leaf, await goneIndexes(db, leaf, leaf.index));
  }
}

/** What follows ON in a CREATE INDEX: `table` is quoted, with its schema. */
export function indexOnSql(space: Space, table: string, column: string, vectorSchema: string): string {
  return `${table} USING hnsw (${ident(column)} ${qualified(vectorSchema, operatorClassOf(space))})
    WITH (m = ${space.index.m}, ef_construction = ${space.index.efConstruction})`;
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

/** Somebody else's index serves in place of ours; on a partitioned table it has a valid one below it in every partition. */
async function isServed(db: Executor, source: Source, space: Space, relations: readonly VectorRelation[]) {
  const { column } = indexedRelation(source, space);
  const root = relations.find(({ parent }) => parent === null);
  if (root && (await findIndex(db, root.schema, root.index, column, operatorClassOf(space)))) return false;
  return (await listVectorIndexes(db, source, space)).serving.length > 0;
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
  if ((await attachedTo(db, leaf, parent, parentIndex)) !== undefined) return;
  await briefly(
    db,
    `ALTER INDEX ${qualified(parent.schema, parentIndex)} ATTACH PARTITION ${qualified(leaf.schema, leafIndex)}`,
  );
}

/** The index of the leaf, whatever its name, that belongs to this one of its parent. */
async function attachedTo(db: Executor, leaf: VectorRelation, parent: VectorRelation, parentIndex: string) {
  const [attached] = await db.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_inherits h JOIN pg_index i ON i.indexrelid = h.inhrelid
     JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1::int8::oid AND h.inhparent = to_regclass($2)`,
    [leaf.oid, qualified(parent.schema, parentIndex)],
  );
  return attached?.name;
}

/** PostgreSQL gave a partition that came later an index of its own naming: ours, and tended as the others are. */
async function takeName(
  db: Database,
  space: Space,
  relation: VectorRelation,
  attached: string | undefined,
  { next, signal }: BuildOptions,
): Promise<void> {
  const name = relation.index + (next ? NEXT : '');
  if (attached === undefined || attached === name) return;
  const [taken] = await db.query('SELECT 1 WHERE to_regclass($1) IS NOT NULL', [qualified(relation.schema, name)]);
  if (taken) return;
  await briefly(db, `ALTER INDEX ${qualified(relation.schema, attached)} RENAME TO ${ident(name)}`, signal);
  if (!next && !relation.partitioned) await recordBuild(db, space, relation, name);
}
