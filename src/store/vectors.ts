import {
  contentSql,
  eligibleSql,
  fromSource,
  givenKeysSql,
  keyArrays,
  keyJoinSql,
  keySql,
} from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { classify } from '../db/errors.js';
import { takeTime } from '../db/timeouts.js';
import type { FreshVector } from './port.js';
import type { RowView } from './rows.js';

/** Pages read for each key of a sample: its rows come from many places, since neighbours were often written together. */
const PAGES_PER_KEY = 4;

/** `Store.freshVectors`. */
export async function readFreshVectors(
  tx: Executor,
  source: Source,
  view: RowView,
  keys: readonly string[],
): Promise<FreshVector[]> {
  const rows = await tx.query<{ key: string; text: string; vector: string }>(
    `SELECT __fv_i.__fv_key AS key, ${contentSql(source.content, source.relation.table)} AS text, ${view.vector}::text AS vector
     FROM ${givenKeysSql(source.key)}
     JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')} ${view.join}
     WHERE ${eligibleSql(source)} AND ${view.fresh}`,
    [keys, ...keyArrays(source.key, keys)],
  );
  return rows.map(({ key, text, vector }) => ({ key, text, vector: fromText(vector) }));
}

/** Texts of those of these keys that are eligible, in the order of the keys. */
export async function readTexts(
  db: Database,
  source: Source,
  keys: readonly string[],
): Promise<{ key: string; text: string }[]> {
  const read = (some: readonly string[]) =>
    db.tx((tx) =>
      tx.query<{ key: string; text: string }>(
        `SELECT __fv_i.__fv_key AS key, ${contentSql(source.content, source.relation.table)} AS text
         FROM ${givenKeysSql(source.key)}
         JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')}
         WHERE ${eligibleSql(source)}`,
        [some, ...keyArrays(source.key, some)],
      ),
    );
  const texts = new Map((await readableOf(keys, read)).map(({ key, text }) => [key, text]));
  return keys.flatMap((key) => {
    const text = texts.get(key);
    return text === undefined ? [] : [{ key, text }];
  });
}

/** pgvector's text form of a vector or halfvec. */
function fromText(vector: string): Float32Array {
  return Float32Array.from(JSON.parse(vector) as number[]);
}

/**
 * Keys of eligible rows from all over the source, at most `count`; the same ones for the same seed while the table
 * stays as it is. Rows whose content cannot be had make it one of all rows.
 */
export async function sampleKeys(db: Database, source: Source, count: number, seed: number): Promise<string[]> {
  const wanted = eligibleSql(source);
  try {
    return await sample(db, source, count, seed, wanted);
  } catch (error) {
    if (classify(error) !== 'data') throw error;
    return sample(db, source, count, seed, 'true');
  }
}

async function sample(db: Database, source: Source, count: number, seed: number, wanted: string): Promise<string[]> {
  const [size] = await db.query<{ pages: number | null }>(
    `SELECT sum(pg_relation_size(t.relid) / current_setting('block_size')::int)::float8 AS pages
     FROM (SELECT $1::int8::oid AS relid UNION SELECT relid FROM pg_partition_tree($1::int8::oid::regclass)) t`,
    [source.relation.oid],
  );
  const percent = Math.min(100, (100 * PAGES_PER_KEY * count) / Math.max(size?.pages ?? 0, 1));
  const from = (share: number) =>
    `${fromSource(source)} TABLESAMPLE SYSTEM (${share}) REPEATABLE (${Math.trunc(seed)})`;
  const keysOf = (share: number) =>
    db.tx(async (tx) => {
      await takeTime(tx);
      return tx.query<{ key: string }>(
        `SELECT __fv_key AS key FROM (
           SELECT ${keySql(source.key, source.relation.table)} AS __fv_key FROM ${from(share)} WHERE ${wanted}
         ) __fv_s ORDER BY hashtextextended(__fv_key, $2::int8), __fv_key LIMIT $1`,
        [count, Math.trunc(seed)],
      );
    });
  let rows = await keysOf(percent);
  // A filter that few rows pass, or pages that are nearly empty.
  if (rows.length < count && percent < 100) rows = await keysOf(100);
  return rows.map(({ key }) => key);
}

/** Reads keys by halves where the content of some row cannot be had; that row is left out. */
export async function readableOf<T>(
  keys: readonly string[],
  read: (keys: readonly string[]) => Promise<T[]>,
): Promise<T[]> {
  if (keys.length === 0) return [];
  try {
    return await read(keys);
  } catch (error) {
    if (classify(error) !== 'data') throw error;
    if (keys.length === 1) return [];
    const middle = keys.length >> 1;
    return [...(await readableOf(keys.slice(0, middle), read)), ...(await readableOf(keys.slice(middle), read))];
  }
}
