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
import { ident, literal, qualified } from '../db/identifiers.js';
import { guardedChange, stillTrue, unheld } from './guarded.js';
import type { RowText, Store, StoreCount } from './port.js';
import { pagesOf } from './relation.js';
import type { VectorCodec } from './vector-codec.js';

/** freshvec's own table of the space: the source's key columns, chunk_no, hash, model, embedding. */
export function vectorTable(space: Pick<Space, 'id'>): string {
  return qualified('freshvec', `vector_${space.id}`);
}

/** `"t"."id" = __fv_v."id" AND …`: the source's row beside its row of vectors. */
function sameKey(source: Source): string {
  return source.key
    .map(({ name }) => `__fv_v.${ident(name)} = ${ident(source.relation.table)}.${ident(name)}`)
    .join(' AND ');
}

/** The state of a row's vector, found by key; its columns begin with `__fv_`, so the source's own names stay free. */
function stateJoin(source: Source, space: Space): string {
  return `LEFT JOIN LATERAL (
      SELECT __fv_v.hash AS __fv_vhash, __fv_v.model = ${literal(space.fingerprint)} AS __fv_vmodel
      FROM ${vectorTable(space)} __fv_v WHERE ${sameKey(source)} AND __fv_v.chunk_no = 0
    ) __fv_state ON true`;
}

/** Vectors in a table of freshvec's own: the source keeps its columns, its HOT updates and its triggers to itself. */
export function tableStore(source: Source, space: Space, codec: VectorCodec): Store {
  const key = keySql(source.key, source.relation.table);
  const keyNames = source.key.map(({ name }) => ident(name));
  const inputKeys = keyColumnNames(source.key);
  const eligible = eligibleSql(source);
  const fresh = `(__fv_vmodel AND __fv_vhash = ${hashSql(source)})`;
  const remove = (where: string) =>
    `DELETE FROM ${vectorTable(space)} __fv_v USING __fv_held __fv_h
       WHERE ${keyNames.map((name, i) => `__fv_v.${name} = __fv_h.${inputKeys[i]}`).join(' AND ')} AND ${where}
       RETURNING __fv_h.__fv_key`;

  return {
    source,
    space,

    async read(tx, keys) {
      return tx.query<RowText & Record<string, unknown>>(
        `SELECT __fv_i.__fv_key AS key, __fv_i.__fv_there AS exists,
           CASE WHEN __fv_i.__fv_eligible THEN CASE WHEN __fv_i.__fv_fresh THEN 'fresh' ELSE 'wanted' END ELSE 'unwanted' END AS state,
           CASE WHEN __fv_i.__fv_eligible THEN false ELSE EXISTS (
             SELECT FROM ${vectorTable(space)} __fv_v WHERE ${keyNames.map((name, i) => `__fv_v.${name} = __fv_i.${inputKeys[i]}`).join(' AND ')}
           ) END AS untidy,
           __fv_i.__fv_text AS text, __fv_i.__fv_hash AS hash, f.hash AS "failedHash"
         FROM (
           SELECT __fv_i.*, __fv_r.*, __fv_r.__fv_eligible IS NOT NULL AS __fv_there
           FROM unnest(${keyArrayParams(source.key, 2)}, $1::text[]) AS __fv_i(${[...inputKeys, '__fv_key'].join(', ')})
           LEFT JOIN LATERAL (
             SELECT ${eligible} AS __fv_eligible, COALESCE(${fresh}, false) AS __fv_fresh,
               CASE WHEN ${eligible} THEN ${contentSql(source.content, source.relation.table)} END AS __fv_text,
               CASE WHEN ${eligible} THEN ${hashSql(source)} END AS __fv_hash
             FROM ${fromSource(source)} ${stateJoin(source, space)}
             WHERE ${keyJoinSql(source.key, source.relation.table, '__fv_i')}
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
        lock: 'FOR KEY SHARE',
        evenIfGone: false,
        change: `INSERT INTO ${vectorTable(space)} AS __fv_v (${keyNames.join(', ')}, chunk_no, hash, model, embedding)
          SELECT ${inputKeys.map((name) => `__fv_h.${name}`).join(', ')}, 0, __fv_h.__fv_hash, ${literal(space.fingerprint)},
            __fv_h.__fv_vector::${codec.storedType(space)}
          FROM __fv_held __fv_h JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_h')}
          WHERE ${stillTrue(source, '__fv_h')}
          ORDER BY ${inputKeys.map((name) => `__fv_h.${name}`).join(', ')}
          ON CONFLICT (${keyNames.join(', ')}, chunk_no) DO UPDATE
            SET hash = excluded.hash, model = excluded.model, embedding = excluded.embedding
          RETURNING ${keySql(source.key, '__fv_v')} AS __fv_key`,
      });
    },

    remove(tx, token, keys) {
      return guardedChange(tx, source, space.id, token, keys, {
        input: [],
        lock: 'FOR KEY SHARE',
        evenIfGone: true,
        change: remove(
          `NOT EXISTS (SELECT FROM (SELECT ${eligible} AS __fv_ok FROM ${fromSource(source)}
             WHERE ${keyJoinSql(source.key, source.relation.table, '__fv_h')}) __fv_s WHERE __fv_ok)`,
        ),
      });
    },

    confirm(_tx, _token, keys) {
      return Promise.resolve(new Map(keys.map((key) => [key, 'written'])));
    },

    async diff(tx, pages, limit) {
      const { from, where } = await pagesOf(tx, source, pages);
      const rows = await tx.query<{ key: string }>(
        `SELECT __fv_key AS key FROM (
           SELECT ${key} AS __fv_key, ${hashSql(source)} AS __fv_hash FROM ${from} ${stateJoin(source, space)}
           WHERE ${where}
           AND CASE WHEN ${eligible} THEN COALESCE(NOT ${fresh}, true) ELSE __fv_vhash IS NOT NULL END
         ) __fv_s
         WHERE ${unheld(space.id)}
         LIMIT $1`,
        [limit],
      );
      return rows.map((row) => row.key);
    },

    async prune(tx, limit) {
      const rows = await tx.query(
        `DELETE FROM ${vectorTable(space)} WHERE ctid = ANY(ARRAY(
           SELECT __fv_v.ctid FROM ${vectorTable(space)} __fv_v
           WHERE NOT EXISTS (SELECT FROM ${fromSource(source)} WHERE ${sameKey(source)})
           LIMIT $1 FOR UPDATE SKIP LOCKED))
         RETURNING 1`,
        [limit],
      );
      return rows.length;
    },

    count: (tx) => count(tx, source, space, fresh),
  };
}

async function count(tx: Executor, source: Source, space: Space, fresh: string): Promise<StoreCount> {
  const [row] = await tx.query<{ rows: number; fresh: number; failed: number; vectors: number }>(
    `SELECT count(*) FILTER (WHERE __fv_e) AS rows, count(*) FILTER (WHERE __fv_e AND __fv_f) AS fresh,
       count(*) FILTER (WHERE __fv_e AND NOT __fv_f AND EXISTS (
         SELECT FROM freshvec.failure f WHERE f.space_id = ${space.id} AND f.key = __fv_key AND f.hash = __fv_h)) AS failed,
       (SELECT count(*) FROM ${vectorTable(space)}) AS vectors
     FROM (SELECT ${eligibleSql(source)} AS __fv_e, COALESCE(${fresh}, false) AS __fv_f,
             ${keySql(source.key, source.relation.table)} AS __fv_key, ${hashSql(source)} AS __fv_h
           FROM ${fromSource(source)} ${stateJoin(source, space)}) __fv_s`,
  );
  return row ?? { rows: 0, fresh: 0, failed: 0, vectors: 0 };
}

export function createTableSql(source: Source, space: Space, vectorSchema: string): string[] {
  const keys = source.key.map(({ name, type }) => `${ident(name)} ${type} NOT NULL`);
  const names = source.key.map(({ name }) => ident(name));
  return [
    `CREATE TABLE IF NOT EXISTS ${vectorTable(space)} (
  ${keys.join(',\n  ')},
  chunk_no int NOT NULL DEFAULT 0,
  hash uuid NOT NULL,
  model text NOT NULL,
  embedding ${ident(vectorSchema)}.${space.type}(${space.dimensions}) NOT NULL,
  PRIMARY KEY (${names.join(', ')}, chunk_no)
) WITH (autovacuum_vacuum_scale_factor = 0.05)`,
    `ALTER TABLE ${vectorTable(space)} ALTER COLUMN embedding SET STORAGE EXTERNAL`,
  ];
}

export function dropTableSql(space: Space): string[] {
  return [`DROP TABLE IF EXISTS ${vectorTable(space)}`];
}
