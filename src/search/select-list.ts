import { contentSql, keySql } from '../catalog/expressions.js';
import { ident } from '../db/identifiers.js';
import type { SearchTarget } from './target.js';

/**
 * What every hit holds: the source's columns under their own names, `__fv_key` and `__fv_stale`. A bigint comes as
 * text, since not every one fits a JavaScript number. `hash` is the vector's.
 */
export function selectList({ source, columns }: SearchTarget, hash: string): string {
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
    `freshvec.is_stale(${hash}, ${contentSql(source.content, source.relation.table)}) AS __fv_stale`,
  ].join(',\n  ');
}
