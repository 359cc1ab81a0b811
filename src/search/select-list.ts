import { caughtSql, contentSql, keySql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import { ident } from '../db/identifiers.js';
import type { SearchTarget } from './target.js';

/**
 * What is done with the user's SQL on a row. `plain`: a row on which it fails fails the statement. `caught`: such a row is
 * a stale hit, or, where the filter fails, none; this costs more, and no index helps the filter. `unread`: nobody asks
 * what is stale, `__fv_stale` is NULL.
 */
export type RowSql = 'plain' | 'caught' | 'unread';

/**
 * What every hit holds: the source's columns under their own names, `__fv_key` and `__fv_stale`. A bigint comes as
 * text, since not every one fits a JavaScript number. `hash` is the vector's.
 */
export function selectList({ source, columns }: SearchTarget, hash: string, rowSql: RowSql): string {
  const table = ident(source.relation.table);
  const values = columns
    .filter(({ own }) => !own)
    .map(({ name, baseType }) => {
      const value = `${table}.${ident(name)}`;
      if (baseType === 'bigint') return `${value}::text AS ${ident(name)}`;
      if (baseType === 'bigint[]') return `${value}::text[] AS ${ident(name)}`;
      return value;
    });
  return [
    ...values,
    `${keySql(source.key, source.relation.table)} AS __fv_key`,
    `${staleSql(source, hash, rowSql)} AS __fv_stale`,
  ].join(',\n  ');
}

function staleSql(source: Source, hash: string, rowSql: RowSql): string {
  if (rowSql === 'unread') return 'NULL::boolean';
  const content = contentSql(source.content, source.relation.table);
  return `freshvec.is_stale(${hash}, ${rowSql === 'caught' ? caughtSql(source, content) : content})`;
}
