import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import type { LongTexts } from './long-texts.js';

/** One column of a source's key, in key order. */
export interface KeyColumn {
  readonly name: string;
  /** As `format_type` prints it: bigint, integer, uuid, text, … */
  readonly type: string;
}

/** Content is columns, joined in order with a blank line, or one SQL expression over the row. */
export type Content = { readonly columns: readonly string[] } | { readonly sql: string };

/** A table whose text is embedded. */
export interface Source {
  readonly id: number;
  readonly name: string;
  readonly relation: { readonly oid: number; readonly schema: string; readonly table: string };
  readonly key: readonly KeyColumn[];
  readonly content: Content;
  /** Columns that content and filter read, generated ones resolved to their base columns. */
  readonly baseColumns: readonly string[];
  /** SQL condition over the row; rows that fail it have no vector. */
  readonly filter: string | undefined;
  readonly tenantColumn: string | undefined;
  /** Says on the row that its vector in the live space is stale; absent where freshvec adds nothing to the table. */
  readonly flagColumn: string | undefined;
  /** What becomes of a text that is longer than the model takes. */
  readonly longTexts: LongTexts;
  /** Tells one definition from the next, as long as the row stands; absent in a plan. */
  readonly version?: string;
}

type SourceRow = {
  id: number;
  name: string;
  relation_oid: number;
  schema_name: string;
  table_name: string;
  key_columns: string[];
  key_types: string[];
  content_columns: string[] | null;
  content_sql: string | null;
  base_columns: string[];
  filter_sql: string | null;
  tenant_column: string | null;
  flag_column: string | null;
  long_texts: LongTexts;
  version: string;
};

function toSource(row: SourceRow): Source {
  return {
    id: row.id,
    name: row.name,
    relation: { oid: Number(row.relation_oid), schema: row.schema_name, table: row.table_name },
    key: row.key_columns.map((name, i) => ({ name, type: row.key_types[i] ?? 'text' })),
    content: row.content_sql === null ? { columns: row.content_columns ?? [] } : { sql: row.content_sql },
    baseColumns: row.base_columns,
    filter: row.filter_sql ?? undefined,
    tenantColumn: row.tenant_column ?? undefined,
    flagColumn: row.flag_column ?? undefined,
    longTexts: row.long_texts,
    version: row.version,
  };
}

/** SQL that holds while the source's definition is still this one; a worker's may be from before an `alter`. */
export function stillDefinedSql(source: Source): string {
  if (source.version === undefined) return 'true';
  return `EXISTS (SELECT FROM freshvec.source __fv_d WHERE __fv_d.id = ${source.id} AND __fv_d.xmin::text = '${source.version}')`;
}

/**
 * Keeps the source's definition as it is until the transaction ends; false where it is another already. For what must not
 * be recorded by a worker from before an `alter`. Take it before any other lock: it waits for an `alter` under way.
 */
export async function holdDefinition(tx: Executor, source: Source): Promise<boolean> {
  await tx.query('SELECT FROM freshvec.source WHERE id = $1 FOR SHARE', [source.id]);
  const [row] = await tx.query<{ same: boolean }>(`SELECT ${stillDefinedSql(source)} AS same`);
  return row?.same ?? false;
}

export async function listSources(db: Executor): Promise<Source[]> {
  return (await db.query<SourceRow>('SELECT *, xmin::text AS version FROM freshvec.source ORDER BY name')).map(
    toSource,
  );
}

export async function findSource(db: Executor, name: string): Promise<Source | undefined> {
  const [row] = await db.query<SourceRow>('SELECT *, xmin::text AS version FROM freshvec.source WHERE name = $1', [
    name,
  ]);
  return row && toSource(row);
}

export async function getSource(db: Executor, name: string): Promise<Source> {
  const source = await findSource(db, name);
  if (source) return source;
  const names = (await listSources(db)).map((s) => s.name);
  throw new FreshvecError(
    'source_unknown',
    names.length === 0
      ? `There is no source "${name}": none has been added yet. Add one with \`freshvec source add TABLE --content … --model …\`.`
      : `There is no source "${name}". There are: ${names.join(', ')}.`,
  );
}

export async function getSourceById(db: Executor, id: number): Promise<Source | undefined> {
  const [row] = await db.query<SourceRow>('SELECT *, xmin::text AS version FROM freshvec.source WHERE id = $1', [id]);
  return row && toSource(row);
}
