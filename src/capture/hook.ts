import type { KeyColumn } from '../catalog/source.js';
import { ident, literal } from '../db/identifiers.js';
import { dollarQuote } from './dollar-quote.js';
import type { CaptureTarget } from './target.js';

/** One trigger function of a source and the triggers that call it. */
export interface Hook {
  /** Function with its schema, without arguments. */
  readonly name: string;
  readonly functionSql: string;
  /** Row triggers, on the source: PostgreSQL itself clones them to the partitions. */
  readonly rowTriggerSql: readonly string[];
  /** Statement triggers, on one relation: they fire only for the table that a statement names, so each has them. */
  statementTriggerSql(relation: string): string[];
}

/** Statements that touch more rows than this go into the bulk lane, so that an import does not delay a person's edit. */
export const BULK_ROWS = 1000;

/** Which lane the rows of a transition table go into; 0 is interactive, 1 bulk. Evaluated once per statement. */
export function laneSql(transitionTable: string, where = ''): string {
  return `CASE WHEN EXISTS (SELECT FROM ${transitionTable}${where} OFFSET ${BULK_ROWS}) THEN 1 ELSE 0 END`;
}

/** The tenant's text of one row, for a fair share of each claim. */
export function tenantSql(target: CaptureTarget, row: string): string {
  const { tenantColumn } = target.source;
  return tenantColumn === undefined ? 'NULL::text' : `${row}.${ident(tenantColumn)}::text`;
}

/**
 * Wakes a worker, if one sleeps. A NOTIFY in every transaction would take a database-wide lock at each commit, and
 * PREPARE TRANSACTION fails after one.
 */
export const DOORBELL = `IF FOUND AND current_setting('max_prepared_transactions') = '0' AND EXISTS (SELECT FROM freshvec.sleeper) THEN
      PERFORM pg_notify('freshvec', '');
    END IF;`;

const DATETIME = /^(date|time)/;

/** Keys of dates are rendered under fixed settings: under another DateStyle a key came back as another day. */
function renderSettings(key: readonly KeyColumn[]): string {
  return key.some(({ type }) => DATETIME.test(type)) ? `\n  SET timezone = 'UTC' SET datestyle = 'ISO, MDY'` : '';
}

/**
 * Defines a function that writes into freshvec's tables with its owner's rights: the app's role needs none there.
 * `body` may use `__fv_space`, the id of one of the spaces that the trigger names: it runs once for each.
 */
export function definerFunction(target: CaptureTarget, verb: string, body: string): Pick<Hook, 'name' | 'functionSql'> {
  const name = functionName(target, verb);
  const loop = `DECLARE
  __fv_space int;
BEGIN
  FOREACH __fv_space IN ARRAY TG_ARGV LOOP
    ${body}
  END LOOP;
  RETURN NULL;
END`;
  return {
    name,
    functionSql: `CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp${renderSettings(target.source.key)}
AS ${dollarQuote(loop)}`,
  };
}

export function functionName(target: Pick<CaptureTarget, 'source'>, verb: string): string {
  return `freshvec.${verb}_${target.source.id}`;
}

/** `freshvec.insert_1('7', '9')`: the spaces are arguments, so that a session with an old snapshot serves new ones too. */
export function callWithSpaces(target: CaptureTarget, name: string): string {
  return `${name}(${target.spaceIds.map((id) => literal(String(id))).join(', ')})`;
}
