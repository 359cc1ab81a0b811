import {
  eligibleSql,
  fromSource,
  hashSql,
  keyArrayParams,
  keyArrays,
  keyColumnNames,
  keyJoinSql,
} from '../catalog/expressions.js';
import { type Source, stillDefinedSql } from '../catalog/source.js';
import type { Executor } from '../db/database.js';
import { ident } from '../db/identifiers.js';
import type { SettledWrite, SettleSql, WriteItem, WriteOutcome } from './port.js';
import { assertAllVisible } from './relation.js';
import type { VectorCodec } from './vector-codec.js';

/** A change of rows that is done only under a lease and only if it is still true. */
export interface GuardedChange {
  /** Extra columns of the input, beside the keys: SQL type and value array. */
  readonly input: readonly { readonly name: string; readonly type: string; readonly values: readonly unknown[] }[];
  /** How the source row is locked before the lease. */
  readonly lock: 'FOR NO KEY UPDATE' | 'FOR KEY SHARE';
  /** May the change be made although the source row is gone (it removes what that row left behind)? */
  readonly evenIfGone: boolean;
  /**
   * One vector for each key, in their order, or one for each space; kept out of the input, whose rows are copied from step
   * to step.
   */
  readonly vectors?: readonly { readonly type: string; readonly values: Buffer }[];
  /**
   * The data-modifying statement; reads `__fv_held`, RETURNING the key text as `__fv_key`. `vectorOf` is the vector of a
   * row of it, the first or the `which`-th.
   */
  readonly change: (vectorOf: VectorOf) => string;
  /**
   * Where the app's triggers see the change: it returns `__fv_outcome` too, by what they made of the row, and this statement
   * selects both, `key` and `outcome`, for rows of `__fv_held` that the change is still true of.
   */
  readonly look?: string;
}

/** SQL for a vector that came with `row`. */
export type VectorOf = (row: string, which?: number) => string;

/** Whoever holds the keys of a change: a space's leases with this token. */
export interface Holder {
  readonly spaceId: number;
  readonly token: string;
}

/**
 * Runs one guarded change: source rows are locked first, in key order, then the leases, both SKIP LOCKED; a key goes
 * through only if both were had (DESIGN law 4). All in one statement, so that it passes a pooler and holds its locks
 * for as short as can be. The leases of keys that come back `written`, `restless`, `vetoed` or `changed` are locked by the
 * caller's transaction from here on. Where there is another holder, a key goes through only if the leases of both were had.
 */
export async function guardedChange(
  tx: Executor,
  source: Source,
  holder: Holder,
  keys: readonly string[],
  change: GuardedChange,
  other?: Holder,
): Promise<Map<string, WriteOutcome>> {
  const { input, evenIfGone, look } = change;
  const done: readonly WriteOutcome[] = look ? ['written', 'restless', 'vetoed'] : ['written'];
  const { ctes, params } = guardedCtes(source, holder, keys, change, other);
  const rows = await tx.query<{ key: string; outcome: WriteOutcome }>(
    `WITH ${ctes.join(', ')}
     SELECT i.__fv_key AS key, CASE
         ${done.map((outcome) => `WHEN i.__fv_key IN (SELECT __fv_key FROM __fv_done${look ? ` WHERE __fv_outcome = '${outcome}'` : ''}) THEN '${outcome}'`).join('\n         ')}
         WHEN i.__fv_key IN (SELECT __fv_key FROM __fv_held) THEN 'changed'
         WHEN NOT EXISTS (SELECT FROM freshvec.lease l WHERE l.space_id = $1 AND l.key = i.__fv_key AND l.token = $2::uuid) THEN 'lost'
         ${evenIfGone ? '' : `WHEN i.__fv_key NOT IN (SELECT __fv_exists FROM __fv_there) THEN 'gone'`}
         ELSE 'locked' END AS outcome
     FROM __fv_in i`,
    params,
  );
  if (evenIfGone || rows.some(({ outcome }) => outcome === 'gone')) await assertAllVisible(tx, source);
  const outcomes = new Map(rows.map(({ key, outcome }) => [key, outcome]));
  if (look) await lookAgain(tx, source, { keys, input, look }, outcomes);
  return outcomes;
}

/**
 * The same change with the leases of what it wrote settled in the same statement, which may end its transaction. Of keys that
 * it did not change it does not tell why; their leases are as they were, and so are those of `restless` ones.
 */
export async function settledChange(
  tx: Executor,
  source: Source,
  holder: Holder,
  keys: readonly string[],
  change: GuardedChange,
  settling: SettleSql,
): Promise<SettledWrite> {
  const { ctes, params } = guardedCtes(source, holder, keys, change);
  const outcome = change.look ? '__fv_outcome' : `'written'`;
  const settled = settling(`SELECT __fv_key FROM __fv_done WHERE ${outcome} = 'written'`, params.length + 1);
  const rows = await tx.query<{ key: string; outcome: WriteOutcome; seconds: number | null; ms: number }>(
    `WITH ${[...ctes, settled.ctes].join(', ')}
     SELECT d.__fv_key AS key, ${outcome} AS outcome, e.seconds,
       1000 * extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS ms
     FROM __fv_done d LEFT JOIN __fv_ended e ON e.key = d.__fv_key`,
    [...params, ...settled.params],
    { last: true },
  );
  const keysOf = (wanted: WriteOutcome) => rows.filter((row) => row.outcome === wanted).map(({ key }) => key);
  return {
    written: keysOf('written'),
    restless: keysOf('restless'),
    lagSeconds: rows.flatMap(({ seconds }) => seconds ?? []),
    lockedMs: Math.max(0, ...rows.map(({ ms }) => ms)),
  };
}

/**
 * Of a guarded change: `__fv_in`, `__fv_there` (keys whose rows are there; planned only where it is asked), `__fv_held` (keys
 * of which both locks were had) and `__fv_done`. $1 and $2 are the holder's.
 */
function guardedCtes(
  source: Source,
  { spaceId, token }: Holder,
  keys: readonly string[],
  { input, vectors = [], lock, evenIfGone, change }: GuardedChange,
  other?: Holder,
): { ctes: string[]; params: unknown[] } {
  const names = keyColumnNames(source.key);
  const first = names.length + 4;
  const arrays = input.map(({ type }, i) => `$${first + i}::${type}[]`);
  const firstVectors = first + input.length;
  const vectorOf: VectorOf = (row, which = 0) => `($${firstVectors + which}::${vectors[which]?.type}[])[${row}.__fv_n]`;
  const firstOther = firstVectors + vectors.length;
  const columns = [...names, '__fv_key', ...input.map(({ name }) => name), '__fv_n'];
  const table = ident(source.relation.table);
  const joined = `${fromSource(source)} JOIN __fv_in __fv_i ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')}`;
  const order = source.key.map(({ name }) => `${table}.${ident(name)}`).join(', ');
  const leases = (name: string, of: string, keysSql: string) => `${name} AS MATERIALIZED (
       SELECT l.key AS __fv_leased FROM freshvec.lease l
       WHERE ${of} AND l.key = ANY(ARRAY(${keysSql}))
       ORDER BY l.key FOR UPDATE SKIP LOCKED
     )`;
  const held = (space: string, by: string) => `l.space_id = ${space} AND l.token IS NOT DISTINCT FROM ${by}::uuid`;
  const gone = evenIfGone
    ? ' UNION ALL SELECT __fv_key FROM __fv_in WHERE __fv_key NOT IN (SELECT __fv_exists FROM __fv_there)'
    : '';
  const ctes = [
    `__fv_in AS MATERIALIZED (
       SELECT * FROM unnest(${[keyArrayParams(source.key, 4), '$3::text[]', ...arrays].join(', ')}) WITH ORDINALITY AS __fv_i(${columns.join(', ')})
     )`,
    `__fv_there AS MATERIALIZED (SELECT __fv_i.__fv_key AS __fv_exists FROM ${joined})`,
    `__fv_row AS MATERIALIZED (
       SELECT __fv_i.__fv_key AS __fv_locked FROM ${joined}
       ORDER BY ${order} ${lock} OF ${table} SKIP LOCKED
     )`,
    leases('__fv_lease', held('$1', '$2'), `SELECT __fv_locked FROM __fv_row${gone}`),
    ...(other
      ? [leases('__fv_other', held(`$${firstOther}`, `$${firstOther + 1}`), 'SELECT __fv_leased FROM __fv_lease')]
      : []),
    `__fv_held AS MATERIALIZED (
       SELECT i.* FROM __fv_in i JOIN ${other ? '__fv_other' : '__fv_lease'} l ON l.__fv_leased = i.__fv_key
     )`,
    `__fv_done AS (
       ${change(vectorOf)}
     )`,
  ];
  const params = [
    spaceId,
    token,
    keys,
    ...keyArrays(source.key, keys),
    ...input.map(({ values }) => values),
    ...vectors.map(({ values }) => values),
    ...(other ? [other.spaceId, other.token] : []),
  ];
  return { ctes, params };
}

/**
 * Tells rows that changed from those that a trigger would not let change: of these the change is still true in a later
 * snapshot, while the caller's transaction holds them.
 */
async function lookAgain(
  tx: Executor,
  source: Source,
  { keys, input, look }: { readonly keys: readonly string[]; readonly look: string } & Pick<GuardedChange, 'input'>,
  outcomes: Map<string, WriteOutcome>,
): Promise<void> {
  const isChanged = (_: unknown, i: number) => outcomes.get(keys[i] ?? '') === 'changed';
  const changed = keys.filter(isChanged);
  if (changed.length === 0) return;
  const names = keyColumnNames(source.key);
  const arrays = input.map(({ type }, i) => `$${names.length + 2 + i}::${type}[]`);
  const columns = [...names, '__fv_key', ...input.map(({ name }) => name)];
  const rows = await tx.query<{ key: string; outcome: WriteOutcome }>(
    `WITH __fv_held AS MATERIALIZED (
       SELECT * FROM unnest(${[keyArrayParams(source.key, 2), '$1::text[]', ...arrays].join(', ')}) AS __fv_i(${columns.join(', ')})
     ) ${look}`,
    [changed, ...keyArrays(source.key, changed), ...input.map(({ values }) => values.filter(isChanged))],
  );
  for (const { key, outcome } of rows) outcomes.set(key, outcome);
}

/** The row's text still has the hash that came with the item, the row still wants a vector, and content means the same. */
export function stillTrue(source: Source, input: string): string {
  return `${eligibleSql(source)} AND ${hashSql(source)} = ${input}.__fv_hash AND ${stillDefinedSql(source)}`;
}

/** The keys of a write and what comes with them. */
export function vectorInput(
  codec: VectorCodec,
  items: readonly WriteItem[],
  /** Of another space, in the order of the items. */
  others: readonly Float32Array[] = [],
): { keys: string[]; input: GuardedChange['input']; vectors: NonNullable<GuardedChange['vectors']> } {
  const encoded = (vectors: readonly Float32Array[]) => ({ type: codec.vectorType, values: codec.encode(vectors) });
  return {
    keys: items.map((item) => item.key),
    input: [{ name: '__fv_hash', type: 'uuid', values: items.map((item) => item.hash) }],
    vectors: [encoded(items.map((item) => item.vector)), ...(others.length > 0 ? [encoded(others)] : [])],
  };
}
