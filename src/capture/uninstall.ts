import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { functionName } from './hook.js';
import { hooks, VERBS } from './install.js';
import { type CaptureTarget, listRelations } from './target.js';

/** Takes off every trigger of the source, wherever it stands now: detached partitions too. */
export async function dropTriggersSql(db: Executor, sourceId: number): Promise<string[]> {
  return dropTriggersOf(db, sourceId, VERBS);
}

/**
 * Takes off the triggers that the target's stores do not need, of a store that the source had before, and those on
 * partitions that were detached: the functions, made anew, may name columns which these never had.
 */
export async function leftoverTriggersSql(db: Executor, target: CaptureTarget): Promise<string[]> {
  const needed = new Set(hooks(target).map(({ name }) => name));
  const unneeded = VERBS.filter((verb) => !needed.has(functionName(target, verb)));
  const drops = [...(await dropTriggersOf(db, target.source.id, unneeded)), ...(await detachedTriggers(db, target))];
  return [...new Set(drops)];
}

async function detachedTriggers(db: Executor, { source }: CaptureTarget): Promise<string[]> {
  return (await detachedRelations(db, source)).flatMap(({ drops }) => drops);
}

export interface DetachedRelation {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** What takes our triggers off it. */
  readonly drops: readonly string[];
}

/** Tables that were part of the source, and have its triggers still. */
export async function detachedRelations(
  db: Executor,
  { id, relation }: Pick<CaptureTarget['source'], 'id' | 'relation'>,
): Promise<DetachedRelation[]> {
  const within = new Set((await listRelations(db, relation.oid)).map(({ oid }) => oid));
  const found = new Map<number, DetachedRelation>();
  for (const { trigger, oid, schema, table } of await triggersOf(db, id, VERBS)) {
    if (within.has(oid)) continue;
    const drops = [...(found.get(oid)?.drops ?? []), dropSql(trigger, schema, table)];
    found.set(oid, { oid, schema, table, drops });
  }
  return [...found.values()];
}

async function dropTriggersOf(db: Executor, sourceId: number, verbs: readonly string[]): Promise<string[]> {
  return (await triggersOf(db, sourceId, verbs)).map(({ trigger, schema, table }) => dropSql(trigger, schema, table));
}

function triggersOf(db: Executor, sourceId: number, verbs: readonly string[]) {
  return db.query<{ trigger: string; oid: number; schema: string; table: string }>(
    `SELECT t.tgname AS trigger, c.oid::int8 AS oid, n.nspname AS schema, c.relname AS "table"
     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE p.pronamespace = to_regnamespace('freshvec') AND p.proname = ANY($1::text[])
       AND NOT t.tgisinternal AND t.tgparentid = 0
     ORDER BY n.nspname, c.relname, t.tgname`,
    [verbs.map((verb) => `${verb}_${sourceId}`)],
  );
}

function dropSql(trigger: string, schema: string, table: string): string {
  return `DROP TRIGGER IF EXISTS ${ident(trigger)} ON ${qualified(schema, table)}`;
}

export function dropFunctionsSql(sourceId: number): string[] {
  return VERBS.map((verb) => `DROP FUNCTION IF EXISTS freshvec.${verb}_${sourceId}()`);
}
