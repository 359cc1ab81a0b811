import { eligibleSql, fromSource, hashSql, keyColumnNames, keyJoinSql, keySql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { ident, literal, qualified } from '../db/identifiers.js';
import { NOTHING_ADOPTED } from './adopt.js';
import { uncoveredRows } from './coverage.js';
import { guardedChange, settledChange, stillTrue, type VectorOf, vectorInput } from './guarded.js';
import { madeAsAskedSql } from './made-as-asked.js';
import { orphanKeys } from './orphans.js';
import type { Store } from './port.js';
import { countRows, diffRows, type RowView, readRows, suspectRows } from './rows.js';
import { storedVectors } from './stored-vectors.js';
import type { VectorCodec } from './vector-codec.js';
import { readFreshVectors } from './vectors.js';

/** freshvec's own table of the space: the source's key columns, chunk_no, hash, model, embedding. */
export function vectorTable(space: Pick<Space, 'id'>): string {
  return qualified('freshvec', `vector_${space.id}`);
}

/** Vectors in a table of freshvec's own: the source keeps its columns, its HOT updates and its triggers to itself. */
export function tableStore(source: Source, space: Space, codec: VectorCodec): Store {
  const vectors = vectorTable(space);
  const fingerprint = literal(space.fingerprint);
  const names = source.key.map(({ name }) => ident(name));
  const inputs = keyColumnNames(source.key);
  const sameKey = names.map((name) => `__fv_v.${name} = ${ident(source.relation.table)}.${name}`).join(' AND ');
  const inputKey = (input: string) => names.map((name, i) => `__fv_v.${name} = ${input}.${inputs[i]}`).join(' AND ');
  const sourceOf = (input: string) => keyJoinSql(source.key, source.relation.table, input);
  const view: RowView = {
    join: `LEFT JOIN LATERAL (
      SELECT __fv_v.hash AS __fv_vhash, __fv_v.model = ${fingerprint} AS __fv_vmodel, __fv_v.embedding AS __fv_vector
      FROM ${vectors} __fv_v WHERE ${sameKey} AND __fv_v.chunk_no = 0) __fv_state ON true`,
    fresh: `(__fv_vmodel AND __fv_vhash = ${hashSql(source)} AND ${madeAsAskedSql(source, space)})`,
    marked: '(__fv_vhash IS NOT NULL)',
    vector: '__fv_vector',
    flagUp: 'false',
    stands: 'true',
    adoptable: () => 'false',
    orphaned: `EXISTS (SELECT FROM ${vectors} __fv_v WHERE ${inputKey('__fv_i')})`,
    vectors: `(SELECT count(*) FROM ${vectors})`,
  };
  const put = {
    lock: 'FOR KEY SHARE' as const,
    evenIfGone: false,
    change: (
      vectorOf: VectorOf,
    ) => `INSERT INTO ${vectors} AS __fv_v (${names.join(', ')}, chunk_no, hash, model, embedding)
      SELECT ${inputs.map((name) => `__fv_h.${name}`).join(', ')}, 0, __fv_h.__fv_hash, ${fingerprint},
        ${vectorOf('__fv_h')}::${codec.storedType(space)}
      FROM __fv_held __fv_h JOIN ${fromSource(source)} ON ${sourceOf('__fv_h')}
      WHERE ${stillTrue(source, '__fv_h')}
      ORDER BY ${inputs.map((name) => `__fv_h.${name}`).join(', ')}
      ON CONFLICT (${names.join(', ')}, chunk_no) DO UPDATE
        SET hash = excluded.hash, model = excluded.model, embedding = excluded.embedding
      RETURNING ${keySql(source.key, '__fv_v')} AS __fv_key`,
  };

  return {
    source,
    space,
    read: (tx, keys) => readRows(tx, source, space, view, keys),

    write(tx, token, items) {
      const { keys, ...input } = vectorInput(codec, items);
      return guardedChange(tx, source, { spaceId: space.id, token }, keys, { ...input, ...put });
    },
    writeAndSettle(tx, token, items, settling) {
      const { keys, ...input } = vectorInput(codec, items);
      return settledChange(tx, source, { spaceId: space.id, token }, keys, { ...input, ...put }, settling);
    },

    vectors: (tx, keys) =>
      storedVectors(tx, source, keys, {
        spaceId: space.id,
        from: `${vectors} AS __fv_v`,
        alias: '__fv_v',
        hash: '__fv_v.hash',
        vector: '__fv_v.embedding',
        where: `__fv_v.model = ${fingerprint} AND __fv_v.chunk_no = 0`,
      }),
    remove(tx, token, keys) {
      return guardedChange(tx, source, { spaceId: space.id, token }, keys, {
        input: [],
        lock: 'FOR KEY SHARE',
        evenIfGone: true,
        change: () => `DELETE FROM ${vectors} __fv_v USING __fv_held __fv_h
          WHERE ${inputKey('__fv_h')} AND NOT EXISTS (
            SELECT FROM (SELECT ${eligibleSql(source)} AND ${madeAsAskedSql(source, space)} AS __fv_ok FROM ${fromSource(source)} WHERE ${sourceOf('__fv_h')}) __fv_s
            WHERE __fv_ok)
          RETURNING __fv_h.__fv_key`,
      });
    },

    /** There is no flag to lower. */
    confirm: (_tx, _token, keys) => Promise.resolve(new Map(keys.map((key) => [key, 'written']))),
    diff: (tx, pages, limit) => diffRows(tx, source, space, view, pages, limit),
    /** A table of freshvec's own holds nobody else's vectors. */
    adopt: async () => NOTHING_ADOPTED,
    suspects: (tx, pages, written) => suspectRows(tx, source, space, pages, written),

    uncovered: (tx, pages, written) => uncoveredRows(tx, source, space, view, pages, written),
    freshVectors: (tx, keys) => readFreshVectors(tx, source, view, keys),
    orphans: (tx, limit) =>
      orphanKeys(
        tx,
        source,
        space,
        limit,
        `SELECT ${keySql(source.key, '__fv_v')} AS __fv_key FROM ${vectors} __fv_v
         WHERE NOT EXISTS (SELECT FROM ${fromSource(source)} WHERE ${sameKey})`,
      ),
    count: (tx) => countRows(tx, source, space, view),
  };
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
