import type { Metric, Space } from '../catalog/space.js';
import { ident } from '../db/identifiers.js';

const OPERATORS: Readonly<Record<Metric, string>> = { cosine: '<=>', l2: '<->', ip: '<#>' };

/**
 * Distance between a stored vector and the query, `$1` (pgvector's text form). The operator is the one of the index's
 * operator class and the query has the stored type: anything else is a silent sequential scan.
 */
export function distanceSql(space: Space, vectorSchema: string, stored: string): string {
  const schema = ident(vectorSchema);
  return `${stored} OPERATOR(${schema}.${OPERATORS[space.metric]}) $1::${schema}.${space.type}(${space.dimensions})`;
}
