import { fromSource, keyColumnNames, keyJoinSql } from '../catalog/expressions.js';
import { ident, literal } from '../db/identifiers.js';
import { vectorTable } from '../store/table.js';
import { distanceSql, type Knn } from './operator.js';
import { type RowSql, selectList } from './select-list.js';
import type { SearchTarget } from './target.js';

/**
 * The `$2` nearest rows of a space with a table of its own. The join stands below the LIMIT, so that a vector whose
 * row is gone, or that the filter leaves out, makes room for the next one: the index scan over the vectors goes on.
 */
export function nearestInTable(
  target: SearchTarget,
  vectorSchema: string,
  conditions: readonly string[],
  knn: Knn,
  rowSql: RowSql,
): string {
  const { source, space } = target;
  const keys = keyColumnNames(source.key);
  const named = source.key.map(({ name }, i) => `${ident(name)} AS ${keys[i]}`);
  const distance = distanceSql(space, vectorSchema, '__fv_v.__fv_embedding', knn);
  return `SELECT ${selectList(target, '__fv_v.__fv_hash', rowSql)},
  __fv_v.__fv_model,
  ${distance} AS __fv_distance
FROM (
  SELECT ${named.join(', ')}, hash AS __fv_hash, model AS __fv_model, embedding AS __fv_embedding
  FROM ${vectorTable(space)}
) __fv_v JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_v')}
WHERE ${[`__fv_v.__fv_model = ${literal(space.fingerprint)}`, ...conditions].join(' AND ')}
ORDER BY ${distance}
LIMIT $2`;
}
