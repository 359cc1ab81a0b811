import type { Executor } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { ident } from '../db/identifiers.js';
import { didYouMean, SourceRefused } from './errors.js';

export interface TableColumn {
  readonly name: string;
  /** As `format_type` prints it, with its modifier: `vector(256)`. */
  readonly type: string;
  /** Without the modifier. */
  readonly baseType: string;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  readonly generated: 'no' | 'stored' | 'virtual';
}

/** The table as the catalog has it. */
export interface Table {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** pg_class.relkind: r plain, p partitioned, v view, m materialized view, f foreign, S sequence. */
  readonly kind: string;
  readonly temporary: boolean;
  /** The partitioned table that this is a partition of. */
  readonly partitionOf: string | null;
  /** It, or a table below it, takes part in plain inheritance. */
  readonly inherits: boolean;
  readonly foreignPartitions: boolean;
  readonly system: boolean;
  readonly owner: string;
  /** Whether this role is the owner or a member of it. */
  readonly owned: boolean;
  /** Row-level security hides rows from this role. */
  readonly rowSecurity: boolean;
  readonly mayCreateInSchema: boolean;
  readonly role: string;
  readonly columns: readonly TableColumn[];
}

/** Finds the table by a name as in SQL; a name in mixed case without quotes is taken as it stands, too. */
export async function readTable(db: Executor, name: string): Promise<Table> {
  const oid = (await resolve(db, name)) ?? (await resolve(db, name.split('.').map(quoteIfBare).join('.')));
  if (oid === undefined) throw await noSuchTable(db, name);
  const [row] = await db.query<Omit<Table, 'columns'> & Record<string, unknown>>(
    `SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS "table", c.relkind::text AS kind,
       c.relpersistence = 't' AS temporary,
       CASE WHEN c.relispartition THEN (
         SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
         WHERE r.oid = pg_partition_root(c.oid::regclass)) END AS "partitionOf",
       EXISTS (SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
               WHERE c.oid IN (i.inhrelid, i.inhparent) AND NOT k.relispartition) AS inherits,
       EXISTS (SELECT FROM pg_partition_tree(c.oid::regclass) t JOIN pg_class k ON k.oid = t.relid
               WHERE k.relkind = 'f' AND k.oid <> c.oid) AS "foreignPartitions",
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'freshvec', 'freshvec_bullmq') AS system,
       pg_get_userbyid(c.relowner) AS owner, pg_has_role(c.relowner, 'USAGE') AS owned,
       row_security_active(c.oid) AS "rowSecurity",
       has_schema_privilege(c.relnamespace, 'CREATE') AS "mayCreateInSchema", current_user::text AS role
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
    [oid],
  );
  if (!row) throw await noSuchTable(db, name);
  return { ...row, columns: await readColumns(db, oid) };
}

export function readColumns(db: Executor, oid: number): Promise<TableColumn[]> {
  return db.query<{
    name: string;
    type: string;
    baseType: string;
    notNull: boolean;
    hasDefault: boolean;
    generated: 'no' | 'stored' | 'virtual';
  }>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, format_type(atttypid, NULL) AS "baseType",
       attnotnull AS "notNull", atthasdef AS "hasDefault",
       CASE attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' ELSE 'no' END AS generated
     FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [oid],
  );
}

async function resolve(db: Executor, name: string): Promise<number | undefined> {
  try {
    const [row] = await db.query<{ oid: number | null }>('SELECT to_regclass($1)::oid::int8 AS oid', [name]);
    return row?.oid ?? undefined;
  } catch (error) {
    // Not a name at all, too many dots, another database, or a schema that this role may not look into.
    if (sqlState(error) !== undefined) return undefined;
    throw error;
  }
}

function quoteIfBare(part: string): string {
  return part.startsWith('"') || part === '' || Buffer.byteLength(part) > 63 ? part : ident(part);
}

async function noSuchTable(db: Executor, name: string): Promise<SourceRefused> {
  const rows = await db.query<{ name: string }>(
    `SELECT CASE n.nspname WHEN 'public' THEN format('%I', c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS name
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'freshvec', 'freshvec_bullmq')
     ORDER BY 1 LIMIT 200`,
  );
  const names = rows.map((row) => row.name);
  return new SourceRefused(name, [`there is no such table in this database.${didYouMean(name, names)}`]);
}
