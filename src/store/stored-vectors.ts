import { givenKeysSql, keyArrays, keyJoinSql } from '../catalog/expressions.js';
import type { LongText } from '../catalog/long-texts.js';
import type { Source } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import type { StoredVector } from './port.js';

/** Where vectors stand: SQL over a relation that has the source's key columns. */
interface Place {
  readonly spaceId: number;
  readonly from: string;
  /** Not quoted. */
  readonly alias: string;
  readonly hash: string;
  readonly vector: string;
  readonly where: string;
}

/** `Store.vectors`: in one statement, without a lock. */
export async function storedVectors(
  tx: Executor,
  source: Source,
  keys: readonly string[],
  { spaceId, from, alias, hash, vector, where }: Place,
): Promise<Map<string, StoredVector>> {
  const rows = await tx.query<{ key: string; hash: string; vector: number[]; long: LongText | null }>(
    `SELECT __fv_i.__fv_key AS key, ${hash}::text AS hash, ${vector}::real[] AS vector,
       (SELECT jsonb_build_object('how', l.how, 'tokens', l.tokens, 'maxTokens', l.max_tokens, 'pieces', l.pieces)
        FROM freshvec.long_text l WHERE l.space_id = ${spaceId} AND l.key = __fv_i.__fv_key) AS long
     FROM ${givenKeysSql(source.key)}
     JOIN ${from} ON ${keyJoinSql(source.key, alias, '__fv_i')}
     WHERE ${vector} IS NOT NULL AND ${hash} IS NOT NULL AND ${where}`,
    [keys, ...keyArrays(source.key, keys)],
  );
  return new Map(
    rows.map((row) => [
      row.key,
      { hash: row.hash, vector: Float32Array.from(row.vector), long: row.long ?? undefined },
    ]),
  );
}
