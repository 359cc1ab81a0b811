import { goneColumns } from '../catalog/columns.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';

/** A column whose change makes a row stale. */
export interface WatchedColumn {
  readonly name: string;
  /** As `format_type` prints it without modifiers. */
  readonly type: string;
  /** PostgreSQL's own type: nobody else's code runs when it is compared. */
  readonly builtin: boolean;
}

/** All that the triggers of one source depend on. */
export interface CaptureTarget {
  readonly source: Source;
  /** The maintained spaces: a change is written for each. They are the triggers' arguments. */
  readonly spaceIds: readonly number[];
  /** The flag's column; undefined where freshvec adds nothing to the source's rows. */
  readonly flag: string | undefined;
  /** Whether a space stands in a table of its own, which must hear of deletes. */
  readonly tables: boolean;
  /** Content, filter and key columns, generated ones resolved to those that they are made from. */
  readonly watched: readonly WatchedColumn[];
  /** Columns that the source reads and that are not there under these names: no triggers can be made then. */
  readonly gone: readonly string[];
  /** The source and, where it is partitioned, all below it, the source first. Quoted. */
  readonly relations: readonly string[];
  /** Key or tenant is a generated column, which a BEFORE trigger does not see yet. */
  readonly generatedKey: boolean;
  /** The app has BEFORE UPDATE row triggers, which may rewrite columns that a statement does not name. */
  readonly rewritten: boolean;
  /** One of these fires after ours, by its name: what it makes of key, tenant or content, the flag's trigger cannot see. */
  readonly overruled: boolean;
}

export async function readCaptureTarget(
  db: Executor,
  source: Source,
  spaces: readonly Pick<Space, 'id' | 'store'>[],
): Promise<CaptureTarget> {
  const { oid } = source.relation;
  const names = [...source.baseColumns, ...source.key.map(({ name }) => name)];
  return {
    source,
    spaceIds: spaces.map((space) => space.id),
    flag: source.flagColumn,
    tables: spaces.some((space) => space.store === 'table'),
    watched: await readWatched(db, oid, names),
    gone: await goneColumns(db, oid, names),
    relations: (await listRelations(db, oid)).map(({ schema, table }) => qualified(schema, table)),
    generatedKey: await anyGenerated(db, oid, [...source.key.map(({ name }) => name), source.tenantColumn ?? '']),
    ...(await ownBeforeUpdate(db, source)),
  };
}

/** The relation and everything below it, itself first; a plain table alone. */
export async function listRelations(
  db: Executor,
  oid: number,
): Promise<{ oid: number; schema: string; table: string; leaf: boolean }[]> {
  return db.query(
    `SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS "table", c.relkind <> 'p' AS leaf
     FROM (SELECT $1::oid AS relid, 0 AS level
           UNION SELECT relid, level FROM pg_partition_tree($1::oid::regclass)) t
     JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY t.level, n.nspname, c.relname`,
    [oid],
  );
}

/** PostgreSQL gives its own types the oids below (FirstGenbkiObjectId in access/transam.h). */
const FIRST_OID_OF_OTHERS = 10_000;

/** Columns by name, each generated one replaced by the columns that it is made from. */
export async function readWatched(db: Executor, oid: number, names: readonly string[]): Promise<WatchedColumn[]> {
  return db.query<WatchedColumn & Record<string, unknown>>(
    `SELECT b.attname AS name, format_type(b.atttypid, NULL) AS type, b.atttypid < ${FIRST_OID_OF_OTHERS} AS builtin
     FROM pg_attribute b
     WHERE b.attrelid = $1 AND b.attgenerated = '' AND b.attnum IN (
       SELECT a.attnum FROM pg_attribute a
       WHERE a.attrelid = $1 AND a.attname = ANY($2::text[]) AND NOT a.attisdropped
       UNION
       SELECT d.refobjsubid FROM pg_attribute a
       JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
       JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
         AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid > 0
       WHERE a.attrelid = $1 AND a.attname = ANY($2::text[]) AND a.attgenerated <> '')
     ORDER BY b.attnum`,
    [oid, names],
  );
}

async function anyGenerated(db: Executor, oid: number, names: readonly string[]): Promise<boolean> {
  const [row] = await db.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1 AND attname = ANY($2::text[]) AND attgenerated <> '') AS found`,
    [oid, names],
  );
  return row?.found ?? false;
}

/** Triggers of one kind fire in the order of their names, byte by byte. */
async function ownBeforeUpdate(db: Executor, source: Source): Promise<{ rewritten: boolean; overruled: boolean }> {
  const [row] = await db.query<{ rewritten: boolean; overruled: boolean }>(
    `SELECT count(*) > 0 AS rewritten, COALESCE(bool_or(t.tgname > $2::name), false) AS overruled
     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))
       AND NOT t.tgisinternal AND t.tgtype & 1 = 1 AND t.tgtype & 2 = 2 AND t.tgtype & 16 = 16
       AND p.pronamespace IS DISTINCT FROM to_regnamespace('freshvec')`,
    [source.relation.oid, flagTriggerName(source)],
  );
  return { rewritten: row?.rewritten ?? false, overruled: row?.overruled ?? false };
}

/** Sorts behind whatever an app is likely to call its own. */
export function flagTriggerName({ id }: Pick<Source, 'id'>): string {
  return `zzz_freshvec_flag_${id}`;
}

/**
 * Types whose equality means equal text. Others are compared as text in the collation "C", so that `json`, which has
 * no equality, and case-blind collations work.
 */
const EXACT_TYPES: ReadonlySet<string> = new Set([
  'smallint',
  'integer',
  'bigint',
  'uuid',
  'boolean',
  'date',
  'timestamp without time zone',
  'timestamp with time zone',
]);

/**
 * True where the row `after` must be looked at again because of how it differs from `before`. Every name and operator
 * is qualified; IS DISTINCT FROM cannot be.
 */
export function changedSql({ watched, flag }: CaptureTarget, before: string, after: string): string {
  const differences = watched.map(({ name, type }) => {
    const cast = EXACT_TYPES.has(type) ? '' : '::pg_catalog.text COLLATE pg_catalog."C"';
    const [a, b] = [`${before}.${ident(name)}`, `${after}.${ident(name)}`];
    return `((${a}${cast} OPERATOR(pg_catalog.=) ${b}${cast}) IS NOT TRUE AND NOT (${a} IS NULL AND ${b} IS NULL))`;
  });
  const raised = flag === undefined ? [] : [`(${after}.${ident(flag)} AND NOT ${before}.${ident(flag)})`];
  return [...raised, ...differences].join('\n    OR ');
}
