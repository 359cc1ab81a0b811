import { detachedRelations, listRelations, readCaptureTarget, statementTriggersSql } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import { listMaintainedSpaces, MAINTAINED_STATES, type Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { literal, qualified } from '../db/identifiers.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { rangesSql } from './ranges.js';

/**
 * Captures writes aimed at partitions that came since the source was added, or came back, and has their rows looked at:
 * one that was attached brought its rows along without an INSERT. Resolves to the names of these partitions.
 */
export async function captureNewPartitions(
  db: Database,
  source: Source,
  options: ExecuteOptions = {},
): Promise<string[]> {
  const { fresh, spaces } = await withoutCapture(db, source);
  if (fresh.length === 0) return [];
  const target = await readCaptureTarget(db, source, spaces);
  for (const relation of fresh) {
    const name = qualified(relation.schema, relation.table);
    const locking = (sql: string, why: string): PlannedStatement => ({
      sql,
      lock: `SHARE ROW EXCLUSIVE on ${relation.schema}.${relation.table}, for milliseconds`,
      why,
    });
    const statements = [
      locking(sameSpacesSql(source, spaces), 'a migration may have begun or ended meanwhile'),
      ...statementTriggersSql(target, name).map((sql) => locking(sql, 'notices what the app writes')),
      ...(relation.leaf ? spaces : []).map((space) =>
        locking(rangesSql({ relation }, space.id, 'load'), 'has the rows that are there now embedded'),
      ),
    ];
    await executeStatements(db, { oid: relation.oid, name, relations: 1 }, statements, options);
  }
  return fresh.map(({ schema, table }) => `${schema}.${table}`);
}

/**
 * Takes capture off partitions that were detached: what becomes of its functions later may not fit them, and would fail
 * the app's statements there. Their pages are visited no more. Resolves to their names.
 */
export async function forgetDetached(db: Database, source: Source, options: ExecuteOptions = {}): Promise<string[]> {
  const detached = await detachedRelations(db, source);
  for (const { oid, schema, table, drops } of detached) {
    const lock = `ACCESS EXCLUSIVE on ${schema}.${table}, for milliseconds`;
    const why = 'it is no part of the source any more';
    const statements = [
      { sql: forgetRangesSql(source, oid), lock: NO_LOCK, why },
      ...drops.map((sql) => ({ sql, lock, why })),
    ];
    await executeStatements(db, { oid, name: qualified(schema, table), relations: 1 }, statements, options);
  }
  return detached.map(({ schema, table }) => `${schema}.${table}`);
}

/** A range that is being visited is left to its visitor, who drops it at the next look. */
function forgetRangesSql({ id }: Source, relationOid: number): string {
  return `DELETE FROM freshvec.range WHERE id = ANY(ARRAY(
  SELECT r.id FROM freshvec.range r JOIN freshvec.space s ON s.id = r.space_id
  WHERE s.source_id = ${id} AND r.relation_oid = ${relationOid} FOR UPDATE OF r SKIP LOCKED))`;
}

/**
 * SQL: the partition was attached after its trigger `t` was made, so it was away for a while. What became of its rows
 * then, and of pages that were still to be visited, nobody knows.
 */
const CAME_BACK = `(SELECT min(age(i.xmin)) FROM pg_partition_ancestors(t.tgrelid) a JOIN pg_inherits i ON i.inhrelid = a.relid)
         BETWEEN 0 AND age(t.xmin) - 1`;

/**
 * Relations whose triggers are not there, speak of other spaces than are maintained, or outlasted a time away: as of one
 * moment.
 */
function withoutCapture(db: Database, source: Source) {
  return db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const spaces = await listMaintainedSpaces(tx, source.id);
    const captured = await tx.query<{ oid: number; ids: string; back: boolean }>(
      `SELECT t.tgrelid::int8 AS oid, encode(t.tgargs, 'escape') AS ids, COALESCE(${CAME_BACK}, false) AS back
       FROM pg_trigger t WHERE t.tgname = 'freshvec_insert_' || $1::int`,
      [source.id],
    );
    const wanted = idList(spaces.map(({ id }) => String(id)));
    // The arguments end in a NUL each.
    const idsOf = (ids: string) => idList(ids.split('\\000').filter(Boolean));
    const known = new Map(captured.map(({ oid, ids, back }) => [oid, back ? 'came back' : idsOf(ids)]));
    const relations = await listRelations(tx, source.relation.oid);
    const fresh = relations.filter(({ oid }) =>
      // The source's own triggers change with its spaces.
      oid === source.relation.oid ? !known.has(oid) : known.get(oid) !== wanted,
    );
    return { fresh, spaces };
  });
}

function idList(ids: readonly string[]): string {
  return [...ids].sort().join();
}

/** Under the partition's lock, for which expanding and contracting wait too. */
function sameSpacesSql({ id }: Source, spaces: readonly Pick<Space, 'id'>[]): string {
  return `IF ARRAY(SELECT s.id FROM freshvec.space s WHERE s.source_id = ${id} AND s.state IN (${MAINTAINED_STATES.map(literal).join(', ')}) ORDER BY 1)
  <> ARRAY[${spaces.map((space) => space.id).sort((a, b) => a - b)}]::int[] THEN
  RAISE EXCEPTION 'freshvec: the spaces changed meanwhile' USING ERRCODE = '40001';
END IF`;
}
