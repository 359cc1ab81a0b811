import type { Space } from '../catalog/space.js';
import type { Executor, Row } from '../db/database.js';
import { literal } from '../db/identifiers.js';
import { nearestInColumn } from './column.js';
import { type Conditions, conditions } from './filter.js';
import type { Knn } from './operator.js';
import type { SearchLimits, SearchRequest } from './request.js';
import { SCAN_SETTINGS, WITH_SEQ_SCAN, withoutSeqScan } from './scan.js';
import type { RowSql } from './select-list.js';
import { nearestInTable } from './table.js';
import { type SearchTarget, versionSql } from './target.js';

/** A row of the statement: the source's columns, and the hit's own in `__fv_…`. */
export interface NearRow extends Row {
  readonly __fv_key: string;
  readonly __fv_distance: number;
  readonly __fv_stale: boolean;
  readonly __fv_model: string;
}

export interface Answer {
  readonly near: NearRow[];
  /**
   * The request, the source, row-level security or the join of a table of vectors leaves rows out, so the index may have
   * given up before k of them.
   */
  readonly filtered: boolean;
}

export interface GuardedStatement {
  readonly text: string;
  readonly params: unknown[];
  /** Select-list items that set how it is planned, until the transaction ends. */
  readonly planning: readonly string[];
}

const NEAREST: Readonly<Record<Space['store'], typeof nearestInColumn>> = {
  column: nearestInColumn,
  table: nearestInTable,
};
const FIRST_FILTER_PARAM = 6;

/** What must still hold of the target, besides its version: SQL over `o`, a freshvec.source, and `$3`, the value. */
const GUARDS: Readonly<
  Record<SearchTarget['guard'], (target: SearchTarget) => { check: string; from: string; value: number }>
> = {
  pointer: ({ epoch }) => ({
    check: 'p.epoch = $3::bigint',
    from: 'freshvec.pointer p JOIN freshvec.source o ON o.id = p.source_id',
    value: epoch,
  }),
  space: ({ space }) => ({
    check: `s.fingerprint = ${literal(space.fingerprint)} AND s.state <> 'dropped'`,
    from: 'freshvec.source o JOIN freshvec.space s ON s.source_id = o.id AND s.id = $3::int',
    value: space.id,
  }),
};

/**
 * The statement that reads vectors only if the pointer, or the space that was asked for, still is what the query was
 * embedded for: the inner SELECT has a one-time filter, so a mismatch costs one look at the catalog, and looks different from "no hits".
 * @param query of length `target.space.dimensions`
 */
export function guardedStatement(
  target: SearchTarget,
  vectorSchema: string,
  query: Float32Array,
  k: number,
  request: SearchRequest,
  knn: Knn = 'approximate',
  rowSql: RowSql = 'plain',
): GuardedStatement {
  const { source, space, version } = target;
  const { check, from, value } = GUARDS[target.guard](target);
  const filter: Conditions = conditions(target, request, FIRST_FILTER_PARAM, rowSql === 'caught');
  // A table of vectors has those of deleted rows until a worker comes by.
  const filtered =
    filter.sql.length > 0 || space.store === 'table' ? 'true' : 'pg_catalog.row_security_active(o.relation_oid)';
  // A filter may have an index of its own, or leave so few rows that reading them all is best.
  const ownTable = space.store === 'table' && !request.where && request.tenant === undefined;
  return {
    planning: ownTable ? [knn === 'exact' ? WITH_SEQ_SCAN : withoutSeqScan(source, space)] : [],
    text: `SELECT __fv_p.__fv_valid, __fv_p.__fv_filtered, __fv_h.*
FROM (
  SELECT ${check} AND ${versionSql('o')} = $4::text AS __fv_valid, ${filtered} AS __fv_filtered
  FROM ${from} WHERE o.id = $5::int
  OFFSET 0
) __fv_p LEFT JOIN LATERAL (
${NEAREST[space.store](target, vectorSchema, ['__fv_p.__fv_valid', ...filter.sql], knn, rowSql)}
) __fv_h ON true
ORDER BY __fv_h.__fv_distance`,
    params: [JSON.stringify(Array.from(query)), k, value, version, source.id, ...filter.params],
  };
}

/**
 * Asks once, in the caller's transaction; undefined when the target is out of date.
 * The scan is iterative in any case: a filter, the rows of another model and dead rows that no vacuum has seen yet all
 * thin out the first candidates. `relaxed_order` is why the k rows are sorted again.
 */
export async function askGuarded(
  tx: Executor,
  statement: GuardedStatement,
  { efSearch }: SearchLimits,
): Promise<Answer | undefined> {
  await tx.query(`SELECT ${[SCAN_SETTINGS, ...statement.planning].join(', ')}`, [String(efSearch)]);
  return answerTo(tx, statement);
}

/** As `askGuarded`, in a transaction that has asked before: its scan settings hold. */
export async function askAgain(tx: Executor, statement: GuardedStatement): Promise<Answer | undefined> {
  if (statement.planning.length > 0) await tx.query(`SELECT ${statement.planning.join(', ')}`);
  return answerTo(tx, statement);
}

async function answerTo(tx: Executor, { text, params }: GuardedStatement): Promise<Answer | undefined> {
  const rows = await tx.query<NearRow & { __fv_valid: boolean; __fv_filtered: boolean }>(text, params);
  if (rows[0]?.__fv_valid !== true) return undefined;
  return { near: rows.filter((row) => row.__fv_key !== null), filtered: rows[0].__fv_filtered };
}
