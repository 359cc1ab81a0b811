import {
  contentSql,
  eligibleSql,
  fromSource,
  hashSql,
  keyArrayParams,
  keyArrays,
  keyColumnNames,
  keyJoinSql,
  keySql,
} from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, literal } from '../db/identifiers.js';
import { guardedChange, stillTrue, unheld } from './guarded.js';
import type { RowText, Store, StoreCount } from './port.js';
import { pagesOf } from './relation.js';
import type { VectorCodec } from './vector-codec.js';

/** The four columns of a space in column mode, quoted. The flag belongs to the column of the source's live space. */
export function columnNames(space: Space): { vector: string; model: string; hash: string; stale: string } {
  return {
    vector: ident(space.column),
    model: ident(`${space.column}_model`),
    hash: ident(`${space.column}_hash`),
    stale: ident(`${space.column}_stale`),
  };
}

/** Vectors on the source's own rows: text and vector come back in one index scan. */
export function columnStore(source: Source, space: Space, codec: VectorCodec): Store {
  const names = columnNames(space);
  const table = ident(source.relation.table);
  const key = keySql(source.key, source.relation.table);
  const keyJoin = (other: string) => keyJoinSql(source.key, source.relation.table, other);
  const fingerprint = literal(space.fingerprint);
  const fresh = `(${table}.${names.vector} IS NOT NULL AND ${table}.${names.model} = ${fingerprint} AND ${table}.${names.hash} = ${hashSql(source)})`;
  const empty = `(${table}.${names.vector} IS NULL AND ${table}.${names.hash} IS NULL)`;
  const flagUp = `(${table}.${names.stale} AND EXISTS (SELECT FROM freshvec.pointer __fv_p WHERE __fv_p.space_id = ${space.id}))`;
  const lowered = `${names.stale} = ${table}.${names.stale} AND NOT EXISTS (SELECT FROM freshvec.pointer __fv_p WHERE __fv_p.space_id = ${space.id})`;
  const update = (set: string, where: string) =>
    `UPDATE ${fromSource(source)} SET ${set} FROM __fv_held __fv_h WHERE ${keyJoin('__fv_h')} AND ${where} RETURNING __fv_h.__fv_key`;

  return {
    source,
    space,

    async read(tx, keys) {
      return tx.query<RowText & Record<string, unknown>>(
        `SELECT __fv_i.__fv_key AS key, __fv_i.__fv_there AS exists,
           CASE WHEN NOT __fv_i.__fv_there OR NOT __fv_i.__fv_eligible THEN 'unwanted' WHEN __fv_i.__fv_fresh THEN 'fresh' ELSE 'wanted' END AS state,
           COALESCE(__fv_i.__fv_untidy, false) AS untidy,
           __fv_i.__fv_text AS text, __fv_i.__fv_hash AS hash, f.hash AS "failedHash"
         FROM (
           SELECT __fv_i.__fv_key, __fv_r.*, __fv_r.__fv_eligible IS NOT NULL AS __fv_there
           FROM unnest(${keyArrayParams(source.key, 2)}, $1::text[]) AS __fv_i(${[...keyColumnNames(source.key), '__fv_key'].join(', ')})
           LEFT JOIN LATERAL (
             SELECT ${eligibleSql(source)} AS __fv_eligible,
               COALESCE(${fresh}, false) AS __fv_fresh,
               CASE WHEN ${eligibleSql(source)} THEN ${flagUp} ELSE ${flagUp} OR NOT ${empty} END AS __fv_untidy,
               CASE WHEN ${eligibleSql(source)} THEN ${contentSql(source.content, source.relation.table)} END AS __fv_text,
               CASE WHEN ${eligibleSql(source)} THEN ${hashSql(source)} END AS __fv_hash
             FROM ${fromSource(source)} WHERE ${keyJoin('__fv_i')}
           ) __fv_r ON true
         ) __fv_i LEFT JOIN freshvec.failure f ON f.space_id = ${space.id} AND f.key = __fv_i.__fv_key`,
        [keys, ...keyArrays(source.key, keys)],
      );
    },

    write(tx, token, items) {
      const keys = items.map((item) => item.key);
      return guardedChange(tx, source, space.id, token, keys, {
        input: [
          { name: '__fv_vector', type: codec.vectorType, values: codec.encode(items.map((item) => item.vector)) },
          { name: '__fv_hash', type: 'uuid', values: items.map((item) => item.hash) },
        ],
        lock: 'FOR NO KEY UPDATE',
        evenIfGone: false,
        change: update(
          `${names.vector} = __fv_h.__fv_vector::${codec.storedType(space)}, ${names.model} = ${fingerprint}, ${names.hash} = __fv_h.__fv_hash, ${lowered}`,
          stillTrue(source, '__fv_h'),
        ),
      });
    },

    remove(tx, token, keys) {
      return guardedChange(tx, source, space.id, token, keys, {
        input: [],
        lock: 'FOR NO KEY UPDATE',
        evenIfGone: false,
        change: update(
          `${names.vector} = NULL, ${names.model} = NULL, ${names.hash} = NULL, ${lowered}`,
          `NOT ${eligibleSql(source)}`,
        ),
      });
    },

    confirm(tx, token, keys) {
      return guardedChange(tx, source, space.id, token, keys, {
        input: [],
        lock: 'FOR NO KEY UPDATE',
        evenIfGone: false,
        change: update(lowered, `${eligibleSql(source)} AND ${fresh}`),
      });
    },

    async diff(tx, pages, limit) {
      const { from, where } = await pagesOf(tx, source, pages);
      const rows = await tx.query<{ key: string }>(
        `SELECT __fv_key AS key FROM (
           SELECT ${key} AS __fv_key, ${hashSql(source)} AS __fv_hash FROM ${from} WHERE ${where}
           AND (CASE WHEN ${eligibleSql(source)} THEN COALESCE(NOT ${fresh}, true) ELSE NOT ${empty} END OR ${flagUp})
         ) __fv_s
         WHERE ${unheld(space.id)}
         LIMIT $1`,
        [limit],
      );
      return rows.map((row) => row.key);
    },

    async prune() {
      return 0;
    },

    count: (tx) => count(tx, source, space, fresh, `${table}.${names.vector} IS NOT NULL`),
  };
}

async function count(tx: Executor, source: Source, space: Space, fresh: string, has: string): Promise<StoreCount> {
  const [row] = await tx.query<{ rows: number; fresh: number; failed: number; vectors: number }>(
    `SELECT count(*) FILTER (WHERE __fv_e) AS rows, count(*) FILTER (WHERE __fv_e AND __fv_f) AS fresh,
       count(*) FILTER (WHERE __fv_e AND NOT __fv_f AND EXISTS (
         SELECT FROM freshvec.failure f WHERE f.space_id = ${space.id} AND f.key = __fv_key AND f.hash = __fv_h)) AS failed,
       count(*) FILTER (WHERE __fv_v) AS vectors
     FROM (SELECT ${eligibleSql(source)} AS __fv_e, COALESCE(${fresh}, false) AS __fv_f, ${has} AS __fv_v,
             ${keySql(source.key, source.relation.table)} AS __fv_key, ${hashSql(source)} AS __fv_h
           FROM ${fromSource(source)}) __fv_s`,
  );
  return row ?? { rows: 0, fresh: 0, failed: 0, vectors: 0 };
}

/** DDL that makes the columns of a space. The first space of a column also gets the flag. */
export function createColumnsSql(source: Source, space: Space, vectorSchema: string): string[] {
  const names = columnNames(space);
  const type = `${ident(vectorSchema)}.${space.type}(${space.dimensions})`;
  return [
    `ALTER TABLE ${fromSource(source)}
  ADD COLUMN IF NOT EXISTS ${names.vector} ${type},
  ADD COLUMN IF NOT EXISTS ${names.model} text,
  ADD COLUMN IF NOT EXISTS ${names.hash} uuid,
  ADD COLUMN IF NOT EXISTS ${names.stale} boolean NOT NULL DEFAULT true`,
    `ALTER TABLE ${fromSource(source)} ALTER COLUMN ${names.vector} SET STORAGE EXTERNAL`,
  ];
}

export function dropColumnsSql(source: Source, space: Space): string[] {
  const names = columnNames(space);
  return [
    `ALTER TABLE IF EXISTS ${fromSource(source)}
  DROP COLUMN IF EXISTS ${names.vector}, DROP COLUMN IF EXISTS ${names.model},
  DROP COLUMN IF EXISTS ${names.hash}, DROP COLUMN IF EXISTS ${names.stale}`,
  ];
}
