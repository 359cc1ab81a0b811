import { listRelations, readCaptureTarget, statementTriggersSql } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import { listMaintainedSpaces } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import type { PlannedStatement } from './definition.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { rangesSql } from './ranges.js';

/**
 * Captures writes aimed at partitions that came since the source was added, and has their rows looked at: one that was
 * attached brought its rows along without an INSERT. Resolves to the names of these partitions.
 */
export async function captureNewPartitions(
  db: Database,
  source: Source,
  options: ExecuteOptions = {},
): Promise<string[]> {
  const fresh = await relationsWithoutCapture(db, source);
  if (fresh.length === 0) return [];
  const spaces = await listMaintainedSpaces(db, source.id);
  const target = await readCaptureTarget(db, source, spaces);
  for (const relation of fresh) {
    const name = qualified(relation.schema, relation.table);
    const locking = (sql: string, why: string): PlannedStatement => ({
      sql,
      lock: `SHARE ROW EXCLUSIVE on ${relation.schema}.${relation.table}, for milliseconds`,
      why,
    });
    const statements = [
      ...statementTriggersSql(target, name).map((sql) => locking(sql, 'notices what the app writes')),
      ...(relation.leaf ? spaces : []).map((space) =>
        locking(rangesSql({ relation }, space.id, 'load'), 'has the rows that are there now embedded'),
      ),
    ];
    await executeStatements(db, { oid: relation.oid, name, relations: 1 }, statements, options);
  }
  return fresh.map(({ schema, table }) => `${schema}.${table}`);
}

async function relationsWithoutCapture(db: Executor, source: Source) {
  const captured = await db.query<{ oid: number }>(
    `SELECT tgrelid::int8 AS oid FROM pg_trigger WHERE tgname = 'freshvec_insert_' || $1::int`,
    [source.id],
  );
  const oids = new Set(captured.map(({ oid }) => oid));
  return (await listRelations(db, source.relation.oid)).filter(({ oid }) => !oids.has(oid));
}
