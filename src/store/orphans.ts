import { column, fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { literal } from '../db/identifiers.js';
import { assertAllVisible } from './relation.js';

/**
 * `Store.orphans`: keys of failures and of notes of long texts whose row is gone, behind those that `vectors`, SQL,
 * selects as `__fv_key`. Of keys that somebody holds those are left out that will be read once more anyway; any other
 * holder may have read the row while it was there. Nothing here is sorted, so that the first keys can do for a visit.
 */
export async function orphanKeys(
  tx: Executor,
  source: Source,
  space: Space,
  limit: number,
  vectors?: string,
): Promise<string[]> {
  const records = [recordsSql(source, space, 'failure'), recordsSql(source, space, 'long_text')];
  const left = vectors === undefined ? records : [vectors, ...records];
  const rows = await tx.query<{ key: string }>(
    `SELECT __fv_key AS key FROM (
       ${left.join('\n       UNION ALL ')}
     ) __fv_o
     WHERE NOT EXISTS (SELECT FROM freshvec.lease l
       WHERE l.space_id = ${space.id} AND l.key = __fv_key AND (l.token IS NULL OR l.again))
     LIMIT $1`,
    [limit],
  );
  await assertAllVisible(tx, source);
  return rows.map(({ key }) => key);
}

/**
 * A record whose key has no value of the column's type stays (the type was widened since): nobody could read the row. The
 * parts of a key come out of jsonb, and so without the collation of freshvec's own key columns.
 */
function recordsSql(source: Source, space: Space, records: 'failure' | 'long_text'): string {
  const { key } = source;
  const keyParts = key.length === 1 ? 'pg_catalog.jsonb_build_array(key)' : 'key::pg_catalog.jsonb';
  const parts = key.map(({ name, type }, i) => ({ name, type, text: `(__fv_r.__fv_parts ->> ${i})` }));
  const valid = parts.map(({ type, text }) => `pg_catalog.pg_input_is_valid(${text}, ${literal(type)})`);
  const same = parts.map(({ name, type, text }) => `${column(source, name)} = ${text}::${type}`);
  return `SELECT __fv_key FROM (
         SELECT key, ${keyParts} FROM freshvec.${records} WHERE space_id = ${space.id}) __fv_r(__fv_key, __fv_parts)
       WHERE CASE WHEN ${valid.join(' AND ')}
         THEN NOT EXISTS (SELECT FROM ${fromSource(source)} WHERE ${same.join(' AND ')}) ELSE false END`;
}
