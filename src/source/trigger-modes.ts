import type { Source } from '../catalog/source.js';
import type { Database } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { followOwnTriggers } from './own-triggers.js';

/**
 * Has our triggers fit the app's (`followOwnTriggers`), and puts back the modes of our row triggers: `ENABLE TRIGGER ALL`, with which `pg_restore --disable-triggers` ends, makes
 * plain ones of them. One that is disabled stays so: somebody wanted that. Resolves to the names of the relations.
 */
export async function mendTriggerModes(db: Database, source: Source, options: ExecuteOptions = {}): Promise<string[]> {
  const followed = await followOwnTriggers(db, source, options);
  const rows = await db.query<{ oid: number; schema: string; table: string; trigger: string; mode: string }>(
    `SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS "table", t.tgname AS trigger, w.mode
     FROM (VALUES ('zzz_freshvec_flag_' || $1::int, 'ALWAYS'), ('freshvec_replica_' || $1::int, 'REPLICA')) w(name, mode)
     JOIN pg_trigger t ON t.tgname = w.name AND t.tgenabled = 'O'
     JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY n.nspname, c.relname`,
    [source.id],
  );
  for (const { oid, schema, table, trigger, mode } of rows) {
    const name = qualified(schema, table);
    const statement = {
      sql: `ALTER TABLE ${name} ENABLE ${mode} TRIGGER ${ident(trigger)}`,
      lock: `SHARE ROW EXCLUSIVE on ${schema}.${table}, for milliseconds`,
      why: 'fires on subscribers as well',
    };
    await executeStatements(db, { oid, name, relations: 1 }, [statement], options);
  }
  const { relation } = source;
  const names = rows.map(({ schema, table }) => `${schema}.${table}`);
  return [...new Set([...(followed ? [`${relation.schema}.${relation.table}`] : []), ...names])];
}
