import { eligibleSql, fromSource, hashSql, keyJoinSql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import { type Space, standsSql } from '../catalog/space.js';
import { ident, literal, qualified } from '../db/identifiers.js';
import { adoptableSql, adoptRows, NOTHING_ADOPTED } from './adopt.js';
import { uncoveredRows } from './coverage.js';
import { guardedChange, type Holder, settledChange, stillTrue, type VectorOf, vectorInput } from './guarded.js';
import { indexName } from './index-state.js';
import { madeAsAskedSql } from './made-as-asked.js';
import { orphanKeys } from './orphans.js';
import { NEXT } from './own-index.js';
import type { Store } from './port.js';
import { countRows, diffRows, type RowView, readRows, suspectRows } from './rows.js';
import { assertStands } from './stands.js';
import { storedVectors } from './stored-vectors.js';
import type { VectorCodec } from './vector-codec.js';
import { readFreshVectors } from './vectors.js';

/** The three columns of a space in column mode, quoted. */
export function columnNames(space: Pick<Space, 'column'>): { vector: string; model: string; hash: string } {
  return {
    vector: ident(space.column),
    model: ident(`${space.column}_model`),
    hash: ident(`${space.column}_hash`),
  };
}

/** The same, as the catalog has them. */
export function columnsOf({ column }: Pick<Space, 'column'>): [vector: string, model: string, hash: string] {
  return [column, `${column}_model`, `${column}_hash`];
}

/** Vectors on the source's own rows: text and vector come back in one index scan. */
export function columnStore(source: Source, space: Space, codec: VectorCodec): Store {
  const names = columnNames(space);
  const table = ident(source.relation.table);
  const fingerprint = literal(space.fingerprint);
  const stands = standsSql(space);
  const flag = source.flagColumn === undefined ? undefined : ident(source.flagColumn);
  const loweredBy = (spaces: readonly Space[]) =>
    flag === undefined ? '' : `, ${flag} = ${table}.${flag} AND NOT ${liveDoneSql(source, spaces)}`;
  const lowered = loweredBy([space]);
  const adoptable = (relationOid: number) =>
    space.adoption === 'open' ? adoptableSql(source, space, relationOid) : 'false';
  const view: RowView = {
    join: '',
    fresh: `(${table}.${names.vector} IS NOT NULL AND ${table}.${names.model} = ${fingerprint} AND ${table}.${names.hash} = ${hashSql(source)}
      AND ${madeAsAskedSql(source, space)})`,
    marked: `(${table}.${names.vector} IS NOT NULL OR ${table}.${names.hash} IS NOT NULL)`,
    vector: `${table}.${names.vector}`,
    flagUp: flag === undefined ? 'false' : `(${table}.${flag} AND ${liveDoneSql(source, [space])})`,
    stands,
    adoptable,
    orphaned: 'false',
    vectors: 'count(*) FILTER (WHERE __fv_marked)',
  };
  /** `outcome`: SQL over the row as the app's triggers have left it, or kept it. */
  const update = (set: (vectorOf: VectorOf) => string, where: string, outcome: string) => {
    const found = `${keyJoinSql(source.key, source.relation.table, '__fv_h')} AND ${where} AND ${stands}`;
    return {
      lock: 'FOR NO KEY UPDATE' as const,
      evenIfGone: false,
      change: (vectorOf: VectorOf) => `UPDATE ${fromSource(source)} SET ${set(vectorOf)} FROM __fv_held __fv_h
       WHERE ${found} RETURNING __fv_h.__fv_key, ${outcome} AS __fv_outcome`,
      look: `SELECT __fv_h.__fv_key AS key, ${outcome} AS outcome FROM __fv_held __fv_h JOIN ${fromSource(source)} ON ${found}`,
    };
  };
  const vetoedWhere = (undone: string) => `CASE WHEN ${undone} THEN 'vetoed' ELSE 'written' END`;
  const unwanted = `NOT (${eligibleSql(source)} AND ${madeAsAskedSql(source, space)})`;
  const take = update(
    () => `${names.vector} = NULL, ${names.model} = NULL, ${names.hash} = NULL${lowered}`,
    unwanted,
    vetoedWhere(`${unwanted} AND (${view.marked} OR ${view.flagUp})`),
  );
  const done = `${eligibleSql(source)} AND ${view.fresh}`;
  const lower = update(
    () => `${names.hash} = ${table}.${names.hash}${lowered}`,
    done,
    vetoedWhere(`${done} AND ${view.flagUp}`),
  );
  const put = (...others: readonly Space[]) => {
    const spaces = [space, ...others];
    const columns = spaces.map((one, which) => {
      const { vector, model, hash } = columnNames(one);
      return (vectorOf: VectorOf) =>
        `${vector} = ${vectorOf('__fv_h', which)}::${codec.storedType(one)}, ${model} = ${literal(one.fingerprint)}, ${hash} = __fv_h.__fv_hash`;
    });
    // A vector may be another one than ours: an app's trigger may bring it to unit length.
    const there = spaces.map((one) => {
      const { vector, model, hash } = columnNames(one);
      return `${table}.${vector} IS NOT NULL AND ${table}.${model} = ${literal(one.fingerprint)} AND ${table}.${hash} = __fv_h.__fv_hash`;
    });
    return update(
      (vectorOf) => columns.map((set) => set(vectorOf)).join(', ') + loweredBy(spaces),
      [stillTrue(source, '__fv_h'), ...others.map(standsSql)].join(' AND '),
      `CASE WHEN ${hashSql(source)} IS DISTINCT FROM __fv_h.__fv_hash THEN 'restless' WHEN ${there.join(' AND ')} THEN 'written' ELSE 'vetoed' END`,
    );
  };
  const putAlone = put();
  const holder = (token: string): Holder => ({ spaceId: space.id, token });

  return {
    source,
    space,
    read: (tx, keys) => readRows(tx, source, space, view, keys),
    write(tx, token, items) {
      const { keys, ...input } = vectorInput(codec, items);
      return guardedChange(tx, source, holder(token), keys, { ...input, ...putAlone });
    },
    writeAndSettle(tx, token, items, settling) {
      const { keys, ...input } = vectorInput(codec, items);
      return settledChange(tx, source, holder(token), keys, { ...input, ...putAlone }, settling);
    },
    writeBoth(tx, token, items, other) {
      const { keys, ...input } = vectorInput(codec, items, other.vectors);
      const change = { ...input, ...put(other.space) };
      return guardedChange(tx, source, holder(token), keys, change, { spaceId: other.space.id, token: other.token });
    },
    async vectors(tx, keys) {
      const stored = await storedVectors(tx, source, keys, {
        spaceId: space.id,
        from: fromSource(source),
        alias: source.relation.table,
        hash: `${table}.${names.hash}`,
        vector: `${table}.${names.vector}`,
        where: `${table}.${names.model} = ${fingerprint}`,
      });
      await assertStands(tx, space);
      return stored;
    },
    remove: (tx, token, keys) => guardedChange(tx, source, holder(token), keys, { input: [], ...take }),
    confirm: (tx, token, keys) => guardedChange(tx, source, holder(token), keys, { input: [], ...lower }),
    diff: (tx, pages, limit) => diffRows(tx, source, space, view, pages, limit),
    adopt: (tx, pages, limit) =>
      space.adoption === 'open'
        ? adoptRows(tx, source, space, pages, limit, {
            adoptable: adoptable(pages.relationOid),
            set: `${names.model} = ${fingerprint}, ${names.hash} = ${hashSql(source)}${lowered}`,
          })
        : Promise.resolve(NOTHING_ADOPTED),
    suspects: (tx, pages, written) => suspectRows(tx, source, space, pages, written),
    uncovered: (tx, pages, written) => uncoveredRows(tx, source, space, view, pages, written),
    freshVectors: (tx, keys) => readFreshVectors(tx, source, view, keys),
    orphans: (tx, limit) => orphanKeys(tx, source, space, limit),
    count: (tx) => countRows(tx, source, space, view),
  };
}

/**
 * SQL over the source's row: once these spaces are done with it, so is the live one, of which the flag speaks. The live
 * space's own vector is looked at where it is yet another one on the same rows: the pointer may have moved after that one
 * was written, and whoever comes last lowers the flag. Its columns are looked up by name in the same statement, since
 * those that this process knows of may be another space's by now.
 */
function liveDoneSql(source: Source, spaces: readonly Space[]): string {
  const on = (suffix: string) => `__fv_r.row ->> (__fv_o.column_name || '${suffix}')`;
  const madeOf = `(SELECT CASE
       WHEN ${on('')} IS NULL AND ${on('_hash')} IS NULL THEN 'nothing'
       WHEN ${on('')} IS NOT NULL AND ${on('_model')} = __fv_o.fingerprint AND ${madeAsAskedSql(source, { id: '__fv_o.id' })} THEN ${on('_hash')}
       ELSE 'something else' END
     FROM freshvec.pointer __fv_p JOIN freshvec.space __fv_o ON __fv_o.id = __fv_p.space_id,
       LATERAL (SELECT to_jsonb(${ident(source.relation.table)}.*) AS row OFFSET 0) __fv_r
     WHERE __fv_p.source_id = ${source.id} AND __fv_o.id NOT IN (${spaces.map(({ id }) => id).join(', ')}) AND __fv_o.store = 'column')`;
  const wanted = `CASE WHEN ${eligibleSql(source)} THEN ${hashSql(source)}::text ELSE 'nothing' END`;
  return `COALESCE(${madeOf} = ${wanted}, true)`;
}

/**
 * DDL that makes the columns of a space, and the source's flag. The flag comes first: of an app's edit, which raises it,
 * PostgreSQL then logs the row up to the flag, and not the vector behind it, which is as it was.
 */
export function createColumnsSql(source: Source, space: Space, vectorSchema: string): string[] {
  const names = columnNames(space);
  const type = `${ident(vectorSchema)}.${space.type}(${space.dimensions})`;
  const flag =
    source.flagColumn === undefined
      ? ''
      : `\n  ADD COLUMN IF NOT EXISTS ${ident(source.flagColumn)} boolean NOT NULL DEFAULT true,`;
  return [
    `ALTER TABLE ${fromSource(source)}${flag}
  ADD COLUMN IF NOT EXISTS ${names.vector} ${type},
  ADD COLUMN IF NOT EXISTS ${names.model} text,
  ADD COLUMN IF NOT EXISTS ${names.hash} uuid`,
    // How somebody else's column is stored is their choice.
    ...(space.adoption === undefined
      ? [`ALTER TABLE ${fromSource(source)} ALTER COLUMN ${names.vector} SET STORAGE EXTERNAL`]
      : []),
  ];
}

/** `adopted`: what becomes of a column that was there before freshvec came. */
export function dropColumnsSql(source: Source, space: Space, adopted: 'keep' | 'drop'): string[] {
  const names = columnNames(space);
  const vector = space.adoption !== undefined && adopted === 'keep' ? '' : `DROP COLUMN IF EXISTS ${names.vector}, `;
  const own = ['', NEXT].map((suffix) => qualified(source.relation.schema, indexName(space) + suffix));
  return [
    // Else they go with their column.
    ...(vector === '' ? [`DROP INDEX IF EXISTS ${own.join(', ')}`] : []),
    `ALTER TABLE IF EXISTS ${fromSource(source)}
  ${vector}DROP COLUMN IF EXISTS ${names.model},
  DROP COLUMN IF EXISTS ${names.hash}`,
  ];
}

/** What one of two names is called while they are exchanged; no other transaction ever sees it. */
const BETWEEN = '__fv_between';

/**
 * DDL that gives the columns of each space the names of the other's. The source's flag keeps its own.
 * @param there the columns that the table has: where one of a pair is gone, the other takes its name
 */
export function exchangeColumnsSql(source: Source, one: Space, other: Space, there: readonly string[]): string[] {
  const [ours, theirs] = [columnsOf(one), columnsOf(other)];
  const rename = (from: string, to: string) =>
    `ALTER TABLE ${fromSource(source)} RENAME COLUMN ${ident(from)} TO ${ident(to)}`;
  return ours.flatMap((name, i) => {
    const otherName = theirs[i] ?? name;
    if (!there.includes(name)) return there.includes(otherName) ? [rename(otherName, name)] : [];
    if (!there.includes(otherName)) return [rename(name, otherName)];
    return [rename(name, BETWEEN), rename(otherName, name), rename(BETWEEN, otherName)];
  });
}

/** DDL that takes the flag away: after the last space on the source's rows. */
export function dropFlagSql(source: Source): string[] {
  if (source.flagColumn === undefined) return [];
  return [`ALTER TABLE IF EXISTS ${fromSource(source)} DROP COLUMN IF EXISTS ${ident(source.flagColumn)}`];
}
