import { detachedRelations, listRelations, readCaptureTarget, statementTriggersSql } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import { listMaintainedSpaces, MAINTAINED_STATES, type Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { literal, qualified } from '../db/identifiers.js';
import type { PlannedStatement } from './definition.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { rangesSql } from './ranges.js';

/**
 * Captures writes aimed at partitions that came since the source was added, or came back after its spaces changed, and
 * has their rows looked at: one that was attached brought its rows along without an INSERT. Resolves to the names of
 * these partitions.
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
 * the app's statements there. Resolves to their names.
 */
export async function forgetDetached(db: Database, source: Source, options: ExecuteOptions = {}): Promise<string[]> {
  const detached = await detachedRelations(db, source);
  for (const { oid, schema, table, drops } of detached) {
    const lock = `ACCESS EXCLUSIVE on ${schema}.${table}, for milliseconds`;
    const statements = drops.map((sql) => ({ sql, lock, why: 'it is no part of the source any more' }));
    await executeStatements(db, { oid, name: qualified(schema, table), relations: 1 }, statements, options);
  }
  return detached.map(({ schema, table }) => `${schema}.${table}`);
}

/** Relations whose triggers are not there, or speak of other spaces than are maintained: as of one moment. */
function withoutCapture(db: Database, source: Source) {
  return db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const spaces = await listMaintainedSpaces(tx, source.id);
    const captured = await tx.query<{ oid: number; ids: string }>(
      `SELECT tgrelid::int8 AS oid, encode(tgargs, 'escape') AS ids FROM pg_trigger
       WHERE tgname = 'freshvec_insert_' || $1::int`,
      [source.id],
    );
    const wanted = idList(spaces.map(({ id }) => String(id)));
    // The arguments end in a NUL each.
    const known = new Map(captured.map(({ oid, ids }) => [oid, idList(ids.split('\\000').filter(Boolean))]));
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
