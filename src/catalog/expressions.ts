import { ident, literal, qualified } from '../db/identifiers.js';
import type { Content, KeyColumn, Source } from './source.js';

/**
 * SQL over the row of a source. Every expression names the source's columns bare or by the table's own name, as the
 * user's SQL does, so a FROM that uses them may add only relations whose columns begin with `__fv_`.
 */

/** Prefix of every column that freshvec adds to a FROM clause beside the source's own. */
export const RESERVED_PREFIX = '__fv_';

/** The relation as FROM names it. Its columns are reachable as `"table"."column"`. */
export function fromSource(source: Pick<Source, 'relation'>): string {
  return qualified(source.relation.schema, source.relation.table);
}

export function column(source: Source, name: string): string {
  return `${ident(source.relation.table)}.${ident(name)}`;
}

/** The text to embed, NULL or blank where there is none. `row` is the alias or table name of the row. */
export function contentSql(content: Content, row: string): string {
  if ('sql' in content) return `((${content.sql})::text)`;
  const parts = content.columns.map((name) => `NULLIF(${ident(row)}.${ident(name)}::text, '')`);
  return parts.length === 1 ? `(${parts[0]})` : `concat_ws(E'\\n\\n', ${parts.join(', ')})`;
}

/** True where the row should have a vector: it passes the filter and its text is not blank. Never NULL. */
export function eligibleSql(source: Pick<Source, 'content' | 'filter' | 'relation'>): string {
  const hasText = `COALESCE(${contentSql(source.content, source.relation.table)} ~ '\\S', false)`;
  return source.filter === undefined ? hasText : `(COALESCE((${source.filter}), false) AND ${hasText})`;
}

/** An expression over the row as text; NULL where it fails on the row, which then fails no statement. Planned anew for each row. */
export function caughtSql(source: Pick<Source, 'relation'>, sql: string): string {
  const table = ident(source.relation.table);
  return `freshvec.text_of(${literal(sql)}, ${literal(table)}, ${table}.*)`;
}

/** The hash of the row's text. */
export function hashSql(source: Pick<Source, 'content' | 'relation'>): string {
  return `freshvec.content_hash(${contentSql(source.content, source.relation.table)})`;
}

/**
 * The key as text: the column's own rendering, or a JSON array of them for a composite key. In the collation of
 * freshvec's own key columns, since a comparison of two others has none. Every name is qualified, for triggers without a search_path
 * of their own. `row` is the alias or table name of the row.
 */
export function keySql(key: readonly KeyColumn[], row: string): string {
  const parts = key.map(({ name }) => `${ident(row)}.${ident(name)}::pg_catalog.text`);
  if (parts.length === 1) return `(${parts[0]} COLLATE pg_catalog."C")`;
  return `(pg_catalog.jsonb_build_array(${parts.join(', ')})::pg_catalog.text)`;
}

/** Columns `__fv_k1 …` of the typed key, for lists of keys handed in as text arrays from parameter `first` on. */
export function keyColumnNames(key: readonly KeyColumn[]): string[] {
  return key.map((_, i) => `${RESERVED_PREFIX}k${i + 1}`);
}

/** `$1::text[]::bigint[], $2::…`: one array parameter for each key column, cast to the column's type. */
export function keyArrayParams(key: readonly KeyColumn[], first: number): string {
  return key.map(({ type }, i) => `$${first + i}::text[]::${type}[]`).join(', ');
}

/**
 * `unnest(…) AS __fv_i(__fv_k1, …, __fv_key)`: keys that are handed in, as texts in the first parameter and typed, column by
 * column, in those after it (`keyArrays`).
 */
export function givenKeysSql(key: readonly KeyColumn[]): string {
  const names = [...keyColumnNames(key), `${RESERVED_PREFIX}key`];
  return `unnest(${keyArrayParams(key, 2)}, $1::text[]) AS __fv_i(${names.join(', ')})`;
}

/** `"t"."id" = i.__fv_k1 AND …` */
export function keyJoinSql(key: readonly KeyColumn[], row: string, other: string): string {
  return key.map(({ name }, i) => `${ident(row)}.${ident(name)} = ${other}.${RESERVED_PREFIX}k${i + 1}`).join(' AND ');
}

/** The values of a key in key order, from its text form. */
export function parseKey(key: readonly KeyColumn[], text: string): string[] {
  if (key.length === 1) return [text];
  const parts: unknown = JSON.parse(text);
  if (!Array.isArray(parts) || parts.length !== key.length)
    throw new TypeError(`key of ${key.length} columns expected`);
  return parts.map(String);
}

/** One array of texts for each key column, for `keyArrayParams`. */
export function keyArrays(key: readonly KeyColumn[], keys: readonly string[]): string[][] {
  if (key.length === 1) return [keys.slice()];
  const columns: string[][] = key.map(() => []);
  for (const text of keys) for (const [i, part] of parseKey(key, text).entries()) columns[i]?.push(part);
  return columns;
}
