import { keySql } from '../catalog/expressions.js';
import { ident } from '../db/identifiers.js';
import { callWithSpaces, DOORBELL, definerFunction, type Hook, laneSql, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/**
 * Vectors on the source's own rows: of the updated rows, those with the flag are changes. Where nothing in this
 * transaction raised a flag the WHEN keeps the function from being called, so other updates cost next to nothing.
 */
export function updateHook(target: CaptureTarget, flag: string): Hook {
  const flagged = `fv_new.${ident(flag)}`;
  const { name, functionSql } = definerFunction(
    target,
    'update',
    `INSERT INTO freshvec.change (space_id, lane, key, tenant)
    SELECT __fv_space, ${laneSql('fv_new', ` WHERE ${flagged}`)}, ${keySql(target.source.key, 'fv_new')}, ${tenantSql(target, 'fv_new')}
    FROM fv_new WHERE ${flagged};
    ${DOORBELL}`,
  );
  return {
    name,
    functionSql,
    rowTriggerSql: [],
    statementTriggerSql: (relation) => [
      `CREATE OR REPLACE TRIGGER freshvec_update_${target.source.id} AFTER UPDATE ON ${relation}
  REFERENCING NEW TABLE AS fv_new FOR EACH STATEMENT
  WHEN (current_setting('freshvec.flagged', true) = '1')
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
    ],
  };
}
