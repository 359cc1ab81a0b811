import { column, fromSource } from '../catalog/expressions.js';
import { literal } from '../db/identifiers.js';
import { distanceSql, type Knn } from './operator.js';
import { type RowSql, selectList } from './select-list.js';
import type { SearchTarget } from './target.js';

/** The `$2` nearest rows of a space whose vectors are a column of the source. */
export function nearestInColumn(
  target: SearchTarget,
  vectorSchema: string,
  conditions: readonly string[],
  knn: Knn,
  rowSql: RowSql,
): string {
  const { source, space } = target;
  const vector = column(source, space.column);
  const model = column(source, `${space.column}_model`);
  const distance = distanceSql(space, vectorSchema, vector, knn);
  const where = [`${vector} IS NOT NULL`, `${model} = ${literal(space.fingerprint)}`, ...conditions];
  return `SELECT ${selectList(target, column(source, `${space.column}_hash`), rowSql)},
  ${model} AS __fv_model,
  ${distance} AS __fv_distance
FROM ${fromSource(source)}
WHERE ${where.join(' AND ')}
ORDER BY ${distance}
LIMIT $2`;
}
