import { keySql } from '../catalog/expressions.js';
import { callWithSpaces, DOORBELL, definerFunction, type Hook, laneSql, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/** Every inserted row is a change. Fires only for the table that a statement names, so it stands on each. */
export function insertHook(target: CaptureTarget): Hook {
  const { name, functionSql } = definerFunction(
    target,
    'insert',
    `INSERT INTO freshvec.change (space_id, lane, key, tenant)
    SELECT __fv_space, ${laneSql('fv_new')}, ${keySql(target.source.key, 'fv_new')}, ${tenantSql(target, 'fv_new')}
    FROM fv_new;
    ${DOORBELL}`,
  );
  return {
    name,
    functionSql,
    rowTriggerSql: [],
    statementTriggerSql: (relation) => [
      `CREATE OR REPLACE TRIGGER freshvec_insert_${target.source.id} AFTER INSERT ON ${relation}
  REFERENCING NEW TABLE AS fv_new FOR EACH STATEMENT
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
    ],
  };
}
