import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { functionName } from './hook.js';
import { hooks, VERBS } from './install.js';
import type { CaptureTarget } from './target.js';

/** Takes off every trigger of the source, wherever it stands now: detached partitions too. */
export async function dropTriggersSql(db: Executor, sourceId: number): Promise<string[]> {
  return dropTriggersOf(db, sourceId, VERBS);
}

/** Takes off the triggers that the target's stores do not need: of a store that the source had before. */
export async function leftoverTriggersSql(db: Executor, target: CaptureTarget): Promise<string[]> {
  const needed = new Set(hooks(target).map(({ name }) => name));
  const { id } = target.source;
  return dropTriggersOf(
    db,
    id,
    VERBS.filter((verb) => !needed.has(functionName(target, verb))),
  );
}

async function dropTriggersOf(db: Executor, sourceId: number, verbs: readonly string[]): Promise<string[]> {
  const rows = await db.query<{ trigger: string; schema: string; table: string }>(
    `SELECT t.tgname AS trigger, n.nspname AS schema, c.relname AS "table"
     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE p.pronamespace = to_regnamespace('freshvec') AND p.proname = ANY($1::text[])
       AND NOT t.tgisinternal AND t.tgparentid = 0
     ORDER BY n.nspname, c.relname, t.tgname`,
    [verbs.map((verb) => `${verb}_${sourceId}`)],
  );
  return rows.map(
    ({ trigger, schema, table }) => `DROP TRIGGER IF EXISTS ${ident(trigger)} ON ${qualified(schema, table)}`,
  );
}

export function dropFunctionsSql(sourceId: number): string[] {
  return VERBS.map((verb) => `DROP FUNCTION IF EXISTS freshvec.${verb}_${sourceId}()`);
}
