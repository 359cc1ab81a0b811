import type { Metric, Space } from '../catalog/space.js';
import { ident } from '../db/identifiers.js';

const OPERATORS: Readonly<Record<Metric, string>> = { cosine: '<=>', l2: '<->', ip: '<#>' };

/** k nearest neighbours: by the vector index where there is one, or of all rows that the conditions leave. */
export type Knn = 'approximate' | 'exact';

/**
 * Distance between a stored vector and the query, `$1` (pgvector's text form). The operator is the one of the index's
 * operator class and the query has the stored type: anything else is a silent sequential scan. With 'exact' that is meant: no vector index gives the order of a sum.
 */
export function distanceSql(space: Space, vectorSchema: string, stored: string, knn: Knn = 'approximate'): string {
  const schema = ident(vectorSchema);
  const distance = `${stored} OPERATOR(${schema}.${OPERATORS[space.metric]}) $1::${schema}.${space.type}(${space.dimensions})`;
  return knn === 'exact' ? `(${distance}) + 0` : distance;
}
