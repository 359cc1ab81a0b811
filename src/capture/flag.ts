import { keySql } from '../catalog/expressions.js';
import { ident, literal } from '../db/identifiers.js';
import { dollarQuote } from './dollar-quote.js';
import {
  callWithSpaces,
  DOORBELL,
  functionName,
  type Hook,
  renderSettings,
  tenantSql,
  whereNamesStand,
} from './hook.js';
import { type CaptureTarget, changedSql, flagTriggerName } from './target.js';

/** How many rows of the source the running transaction changed: none before it is set. Ends with the transaction. */
function setting(target: CaptureTarget): string {
  return literal(`freshvec.flagged_${target.source.id}`);
}

function flaggedRowsSql(target: CaptureTarget): string {
  return `pg_catalog.current_setting(${setting(target)}, true)`;
}

/** True where this transaction changed more than one row. */
export function manyFlaggedSql(target: CaptureTarget): string {
  return isSql(flaggedRowsSql(target), 'many');
}

function isSql(rows: string, many: 'one' | 'many'): string {
  return `${rows} OPERATOR(pg_catalog.=) '${many}'`;
}

/**
 * The row trigger that raises the flag of a row that changed. Its name sorts last, so it sees what the app's own BEFORE
 * triggers made of the row; where one of them sorts behind it all the same, `edit` looks at the rows once more.
 *
 * The first row that a transaction changes it also writes as a change, which costs half of what a statement trigger
 * does; from the second on it counts, and the statement trigger writes those of the whole statement. A row written by
 * both is claimed once.
 *
 * A column that was renamed under it is noticed by the first row of each transaction; the rows' flags are raised all the
 * same, for the sweeper to find.
 *
 * It has its owner's rights but no search_path of its own, since setting one costs as much as the rest: every name and
 * operator is qualified, and types that a user defined are compared in the WHEN, with the caller's rights.
 */
export function flagHook(target: CaptureTarget, flag: string): Hook {
  const name = functionName(target, 'flag');
  const trigger = flagTriggerName(target.source);
  const [root = ''] = target.relations;
  const columns = [...target.watched.map((column) => column.name), flag].map(ident).join(', ');
  const changed = changedSql(target, 'OLD', 'NEW');
  const builtin = target.watched.every((column) => column.builtin);
  const unlessSame = builtin ? `IF NOT (${changed}) THEN RETURN NEW; END IF;\n    ` : '';
  const raise = `NEW.${ident(flag)} := true;`;
  const notes = !(target.tables || target.overruled || target.generatedKey);
  const tenant = target.source.tenantColumn === undefined ? '' : `\n    __fv_tenant := ${tenantSql(target, 'new')};`;
  return {
    name,
    functionSql: `CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER${renderSettings(target.source.key)}
AS ${dollarQuote(`DECLARE
  __fv_rows pg_catalog.text := ${flaggedRowsSql(target)};
  __fv_space pg_catalog.int4;
  __fv_key pg_catalog.text;
  __fv_tenant pg_catalog.text;
BEGIN
  IF ${isSql('__fv_rows', 'many')} THEN
    ${unlessSame}${raise}
    RETURN NEW;
  END IF;
  ${whereNamesStand(
    `${unlessSame}${raise}${notes ? `\n    __fv_key := ${keySql(target.source.key, 'new')};${tenant}` : ''}`,
    `${whereNamesStand(raise, 'NULL;')}
    RETURN NEW;`,
  )}
  ${notes ? noteSql(target, flag) : countSql(target, flag, 'many')}
  RETURN NEW;
END`)}`,
    rowTriggerSql: [
      `CREATE OR REPLACE TRIGGER ${trigger} BEFORE UPDATE${target.rewritten ? '' : ` OF ${columns}`}
  ON ${root} FOR EACH ROW${builtin ? '' : `\n  WHEN (${changed})`}
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
      `ALTER TABLE ${root} ENABLE ALWAYS TRIGGER ${trigger}`,
    ],
    statementTriggerSql: () => [],
  };
}

/** An assignment sets it, since PERFORM would run a query. */
function countSql(target: CaptureTarget, flag: string, rows: 'one' | 'many'): string {
  return `NEW.${ident(flag)} := pg_catalog.set_config(${setting(target)}, '${rows}', true) IS NOT NULL;`;
}

/** Writes a change for the first row, counts the second. */
function noteSql(target: CaptureTarget, flag: string): string {
  return `IF ${isSql('__fv_rows', 'one')} THEN
    ${countSql(target, flag, 'many')}
  ELSE
    ${countSql(target, flag, 'one')}
    FOREACH __fv_space IN ARRAY TG_ARGV LOOP
      INSERT INTO freshvec.change (space_id, key, tenant) VALUES (__fv_space, __fv_key, __fv_tenant);
      ${DOORBELL}
    END LOOP;
  END IF;`;
}
