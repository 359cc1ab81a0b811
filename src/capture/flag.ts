import { ident } from '../db/identifiers.js';
import { dollarQuote } from './dollar-quote.js';
import { functionName, type Hook } from './hook.js';
import { type CaptureTarget, changedSql } from './target.js';

/**
 * The row trigger that raises the flag of a row that changed, and remembers in the transaction that it did.
 *
 * Its name sorts last, so it sees what the app's own BEFORE triggers made of the row. It has nobody's rights but the
 * caller's, since it touches nothing but the row at hand; every name in it is qualified. One assignment does both, being
 * evaluated without a query: PERFORM would run one for each row.
 */
export function flagHook(target: CaptureTarget, flag: string): Hook {
  const name = functionName(target, 'flag');
  const trigger = `zzz_freshvec_flag_${target.source.id}`;
  const [root = ''] = target.relations;
  const columns = [...target.watched.map((column) => column.name), flag].map(ident).join(', ');
  return {
    name,
    functionSql: `CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql
AS ${dollarQuote(`BEGIN
  NEW.${ident(flag)} := true;
  IF pg_catalog.current_setting('freshvec.flagged', true) IS DISTINCT FROM '1' THEN
    NEW.${ident(flag)} := pg_catalog.set_config('freshvec.flagged', '1', true) OPERATOR(pg_catalog.=) '1';
  END IF;
  RETURN NEW;
END`)}`,
    rowTriggerSql: [
      `CREATE OR REPLACE TRIGGER ${trigger} BEFORE UPDATE${target.rewritten ? '' : ` OF ${columns}`}
  ON ${root} FOR EACH ROW
  WHEN (${changedSql(target, 'OLD', 'NEW')})
  EXECUTE FUNCTION ${name}()`,
      `ALTER TABLE ${root} ENABLE ALWAYS TRIGGER ${trigger}`,
    ],
    statementTriggerSql: () => [],
  };
}
