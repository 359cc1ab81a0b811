import { keySql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';

/**
 * SQL over the source's row: its vector was not made of a long text in another way than is asked for now. Such a vector
 * has the hash of its text and is stale all the same. The space's id may be SQL.
 */
export function madeAsAskedSql(
  source: Pick<Source, 'key' | 'relation' | 'longTexts'>,
  { id }: Pick<Space, 'id'> | { readonly id: string },
): string {
  return `NOT EXISTS (SELECT FROM freshvec.long_text __fv_l
    WHERE __fv_l.space_id = ${id} AND __fv_l.key = ${keySql(source.key, source.relation.table)}
      AND __fv_l.how <> '${source.longTexts}')`;
}
