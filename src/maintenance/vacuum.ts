import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { describeError } from '../observe/log.js';
import type { OwnIndex, VectorRelation } from '../store/own-index.js';
import { vacuumTable } from '../store/vacuum-table.js';
import { forEach } from './for-each.js';
import { bloatOf, type ReindexOptions, rebuildAlone, validIndexes } from './reindex.js';
import { logged, type RunNotes } from './run-log.js';
import { aloneOnTable, assertFree, either, listTargets, type Target } from './targets.js';
import { isTended } from './tended.js';

export interface VacuumOptions extends ReindexOptions {
  /** Below so many dead rows a table is left to autovacuum; 1,000 unless told. */
  readonly minDead?: number | undefined;
  /** A table that was vacuumed less long ago is left alone, in ms; half an hour unless told. */
  readonly restMs?: number | undefined;
}

const MIN_DEAD = 1_000;
/** Autovacuum's own default is 0.2, far too lazy for tables whose dead rows a vector index keeps finding. */
const DEAD_SHARE = 0.1;
const REST_MS = 1_800_000;

/**
 * Vacuums the tables that hold vectors and have many dead rows. VACUUM mends an HNSW graph row by row, which takes far
 * longer than to build a small one: an index that is bloated is built again first. Resolves to how many were vacuumed.
 */
export async function vacuum(db: Database, options: VacuumOptions): Promise<number> {
  let vacuumed = 0;
  const seen = new Set<number>(); // Two sources may share a table.
  await forEach(await listTargets(db, options.source), async (target) => {
    for (const relation of target.relations) {
      if (relation.partitioned || seen.has(relation.oid)) continue;
      seen.add(relation.oid);
      options.signal?.throwIfAborted();
      const dead = await deadIfDue(db, relation, options);
      if (dead === undefined) continue;
      if (await vacuumLogged(db, target, relation, dead, options)) vacuumed += 1;
    }
  });
  return vacuumed;
}

/** Dead rows, where they are enough for a vacuum and nobody is at it. */
async function deadIfDue(
  db: Executor,
  { oid }: VectorRelation,
  { minDead = MIN_DEAD, restMs = REST_MS }: VacuumOptions,
): Promise<number | undefined> {
  const [row] = await db.query<{ dead: number }>(
    `SELECT n_dead_tup AS dead FROM pg_stat_all_tables s
     WHERE relid = $1::int8::oid AND n_dead_tup >= greatest($2::float8, $3::float8 * n_live_tup)
       AND COALESCE(greatest(last_vacuum, last_autovacuum), '-infinity') < clock_timestamp() - make_interval(secs => $4::float8)
       AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.relid = s.relid AND p.datname = current_database())`,
    [oid, minDead, DEAD_SHARE, restMs / 1000],
  );
  return row?.dead;
}

function vacuumLogged(
  db: Database,
  target: Target,
  relation: VectorRelation,
  dead: number,
  options: VacuumOptions,
): Promise<boolean> {
  const { source } = target;
  const name = `${relation.schema}.${relation.name}`;
  const about = { service: 'vacuum', byPerson: options.byPerson, source: source.name, relation: name };
  return logged(db, { ...about, did: `vacuuming: ${dead} dead rows` }, (notes) =>
    aloneOnTable(db, target, async (lost) => {
      const signal = either(lost, options.signal);
      await assertMayVacuum(db, relation);
      const first = await rebuildFirst(db, relation, { ...options, signal });
      await assertFree(db, relation);
      notes.bytesBefore = await sizeOf(db, relation);
      await vacuumTable(db, qualified(relation.schema, relation.name), { ...options, signal });
      notes.bytesAfter = await sizeOf(db, relation);
      await describe(db, relation, dead, first, notes);
    }),
  );
}

/**
 * Builds the bloated indexes on this table again, of all spaces that have vectors there; resolves to what became of them,
 * in words. One that cannot be built does not keep the table from its vacuum, which takes longer then.
 */
async function rebuildFirst(db: Database, relation: VectorRelation, options: VacuumOptions): Promise<string[]> {
  const first: string[] = [];
  for (const target of await listTargets(db)) {
    if (!target.relations.some(({ oid }) => oid === relation.oid)) continue;
    if (target.space.index.kind === 'none' || !(await isTended(db, target.space))) continue;
    for (const index of await validIndexes(db, target)) {
      if (index.relation.oid !== relation.oid) continue;
      try {
        if (await rebuildIfBloated(db, target, index, options)) first.push(`${index.name} rebuilt first`);
      } catch (error) {
        options.signal?.throwIfAborted();
        first.push(`${index.name} could not be rebuilt first: ${describeError(error).message}`);
      }
    }
  }
  return first;
}

async function rebuildIfBloated(
  db: Database,
  target: Target,
  index: OwnIndex,
  options: VacuumOptions,
): Promise<boolean> {
  const bloat = await bloatOf(db, target, index, options);
  if (!bloat) return false;
  const why = `${bloat.ratio.toFixed(1)} times as large as it need be, before its table is vacuumed`;
  const { schema, name } = index.relation;
  const about = {
    ...{ service: 'reindex', byPerson: options.byPerson, source: target.source.name },
    ...{ relation: `${schema}.${name}`, index: index.name, did: `rebuilding: ${why}` },
  };
  return logged(db, about, (notes) => rebuildAlone(db, target, index, why, notes, options));
}

/** A role that may not is passed over with a warning that nobody reads. */
async function assertMayVacuum(db: Executor, { oid, schema, name }: VectorRelation): Promise<void> {
  const [row] = await db.query<{ version: number; role: string; owner: boolean }>(
    `SELECT current_setting('server_version_num')::int AS version, current_user::text AS role,
       pg_has_role(c.relowner, 'USAGE') AS owner FROM pg_class c WHERE c.oid = $1::int8::oid`,
    [oid],
  );
  if (!row || row.owner) return;
  if (row.version >= 170_000) {
    const [may] = await db.query<{ may: boolean }>(`SELECT has_table_privilege($1::int8::oid, 'MAINTAIN') AS may`, [
      oid,
    ]);
    if (may?.may) return;
  }
  throw new FreshvecError(
    'privilege_missing',
    `The role ${row.role} may not vacuum ${schema}.${name}: GRANT MAINTAIN ON ${qualified(schema, name)} TO ${row.role} ` +
      '(PostgreSQL 17 or later), or make it a member of the role that owns the table.',
  );
}

/** What it came to; where most dead rows are still there, who keeps them. */
async function describe(
  db: Executor,
  relation: VectorRelation,
  before: number,
  first: readonly string[],
  notes: RunNotes,
): Promise<void> {
  const [row] = await db.query<{ dead: number }>(
    'SELECT n_dead_tup AS dead FROM pg_stat_all_tables WHERE relid = $1::int8::oid',
    [relation.oid],
  );
  const after = row?.dead ?? 0;
  const rebuilt = first.length > 0 ? ` (${first.join('; ')})` : '';
  notes.did = `vacuumed: ${before} dead rows before, ${after} after${rebuilt}`;
  if (after <= before / 2) return;
  const [holder] = await db.query<{ who: string }>(
    `SELECT who FROM (
       SELECT format('pid %s (%s, %s)', pid, application_name, COALESCE(state, backend_type)) AS who, age(backend_xmin) AS age
       FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
       UNION ALL SELECT format('the replication slot %s', slot_name), age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL
       UNION ALL SELECT format('the prepared transaction %s', gid), age(transaction) FROM pg_prepared_xacts
     ) holders ORDER BY age DESC LIMIT 1`,
  );
  notes.did += holder ? `; they are kept for ${holder.who}, the oldest that may still read them` : '';
}

async function sizeOf(db: Executor, { oid }: VectorRelation): Promise<number> {
  const [row] = await db.query<{ bytes: number }>('SELECT pg_total_relation_size($1::int8::oid) AS bytes', [oid]);
  return row?.bytes ?? 0;
}
