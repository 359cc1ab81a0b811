import { caughtSql } from '../catalog/expressions.js';
import { suggest } from '../config/suggest.js';
import { FreshvecError } from '../db/errors.js';
import { ident } from '../db/identifiers.js';
import type { SearchTarget, SourceColumn } from './target.js';

export type Scalar = string | number | bigint | boolean | Date;

/** Several operators in one object are ANDed. Comparisons are SQL's: a NULL satisfies none but `isNull: true`. */
export interface FilterOperators {
  readonly eq?: Scalar;
  readonly ne?: Scalar;
  readonly gt?: Scalar;
  readonly gte?: Scalar;
  readonly lt?: Scalar;
  readonly lte?: Scalar;
  readonly in?: readonly Scalar[];
  readonly isNull?: boolean;
  /** SQL LIKE: `%` any characters, `_` one. */
  readonly like?: string;
}

/** Column → value that it must equal, or operators. Columns are ANDed. */
export type Filter = Readonly<Record<string, Scalar | FilterOperators>>;

/** Conditions for a WHERE, and their parameters. */
export interface Conditions {
  readonly sql: string[];
  readonly params: unknown[];
}

const COMPARISONS: ReadonlyMap<string, string> = new Map([
  ['eq', '='],
  ['ne', '<>'],
  ['gt', '>'],
  ['gte', '>='],
  ['lt', '<'],
  ['lte', '<='],
  ['like', 'LIKE'],
]);
const OPERATORS = [...COMPARISONS.keys(), 'in', 'isNull'];
const WHOLE_TYPES: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint']);

/**
 * The source's own filter, the tenant and the caller's filter as SQL. Values are parameters, numbered from `first`. With
 * `caught` the source's filter does not hold on a row on which it fails.
 * Throws FreshvecError `filter_unknown_column`, `filter_invalid` or `tenant_not_supported`.
 */
export function conditions(
  target: SearchTarget,
  request: { readonly where?: Filter; readonly tenant?: string },
  first: number,
  caught = false,
): Conditions {
  const params: unknown[] = [];
  const bind = (value: unknown): string => `$${first + params.push(value) - 1}`;
  const sql: string[] = [];
  const { source } = target;
  if (source.filter !== undefined)
    sql.push(caught ? `${caughtSql(source, source.filter)}::boolean` : `(${source.filter})`);
  if (request.tenant !== undefined) sql.push(`${tenantColumn(target)} = ${bind(request.tenant)}`);
  for (const [name, wanted] of Object.entries(request.where ?? {})) {
    const column = findColumn(target, name);
    const operand = `${ident(target.source.relation.table)}.${ident(column.name)}`;
    for (const [operator, value] of operators(name, wanted)) {
      sql.push(condition(column, operand, operator, value, bind));
    }
  }
  return { sql, params };
}

function condition(
  column: SourceColumn,
  operand: string,
  operator: string,
  value: unknown,
  bind: (value: unknown) => string,
): string {
  const comparison = COMPARISONS.get(operator);
  if (comparison !== undefined) {
    if (!isScalar(value) || (operator === 'like' && typeof value !== 'string'))
      throw notA(column.name, operator, value);
    return `${operand} ${comparison} ${bind(value)}${numericCast(column, [value])}`;
  }
  if (operator === 'in') {
    if (!Array.isArray(value) || !value.every(isScalar)) throw notA(column.name, operator, value);
    const cast = numericCast(column, value);
    return `${operand} = ANY(${bind(value)}${cast && `${cast}[]`})`;
  }
  if (operator === 'isNull') {
    if (typeof value !== 'boolean') throw notA(column.name, operator, value);
    return `${operand} IS ${value ? '' : 'NOT '}NULL`;
  }
  throw invalid(
    `The filter on "${column.name}" has the operator "${operator}", which does not exist.` +
      `${didYouMean(operator, OPERATORS)} There are: ${OPERATORS.join(', ')}.`,
  );
}

/** A parameter takes its column's type; 2.5 against a whole number column is still a comparison that makes sense. */
function numericCast(column: SourceColumn, values: readonly unknown[]): string {
  const fraction = values.some((value) => typeof value === 'number' && !Number.isSafeInteger(value));
  return fraction && WHOLE_TYPES.has(column.baseType) ? '::numeric' : '';
}

function operators(name: string, wanted: unknown): [string, unknown][] {
  if (isScalar(wanted)) return [['eq', wanted]];
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) throw notA(name, 'eq', wanted);
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
  if (given.length === 0)
    throw invalid(`The filter on "${name}" is empty. Give a value or one of: ${OPERATORS.join(', ')}.`);
  return given;
}

function findColumn(target: SearchTarget, name: string): SourceColumn {
  const found = target.columns.find((column) => column.name === name);
  if (found) return found;
  const names = target.columns.filter(({ own }) => !own).map((column) => column.name);
  throw new FreshvecError(
    'filter_unknown_column',
    `The table of "${target.source.name}" has no column "${name}".${didYouMean(name, names)} There are: ${names.join(', ')}.`,
  );
}

function tenantColumn(target: SearchTarget): string {
  const { source } = target;
  if (source.tenantColumn !== undefined) return `${ident(source.relation.table)}.${ident(source.tenantColumn)}`;
  throw new FreshvecError(
    'tenant_not_supported',
    `The source "${source.name}" has no tenant column, so a search of one tenant would answer with rows of all. ` +
      'Add the source with --tenant COLUMN, or filter by a column with `where`.',
  );
}

function isScalar(value: unknown): value is Scalar {
  if (typeof value === 'number') return !Number.isNaN(value);
  if (value instanceof Date) return !Number.isNaN(value.getTime());
  return typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint';
}

function notA(name: string, operator: string, value: unknown): FreshvecError {
  const wanted =
    operator === 'in'
      ? 'an array of values'
      : operator === 'isNull'
        ? 'true or false'
        : operator === 'like'
          ? 'a text'
          : 'a text, number, boolean or date';
  const hint = value === null ? ' For NULL write {"isNull": true}.' : '';
  return invalid(`The filter on "${name}" needs ${wanted} for "${operator}".${hint}`);
}

function invalid(message: string): FreshvecError {
  return new FreshvecError('filter_invalid', message);
}

function didYouMean(written: string, known: readonly string[]): string {
  const near = suggest(written, known);
  return near === undefined ? '' : ` Did you mean "${near}"?`;
}
