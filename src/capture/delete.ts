import { keySql } from '../catalog/expressions.js';
import { callWithSpaces, DOORBELL, definerFunction, type Hook, laneSql, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/** Vectors in a table of their own must go when their row goes: the worker finds the row gone and removes them. */
export function deleteHook(target: CaptureTarget): Hook {
  const { name, functionSql } = definerFunction(
    target,
    'delete',
    `INSERT INTO freshvec.change (space_id, lane, key, tenant)
    SELECT __fv_space, ${laneSql('fv_old')}, ${keySql(target.source.key, 'fv_old')}, ${tenantSql(target, 'fv_old')}
    FROM fv_old;
    ${DOORBELL}`,
  );
  return {
    name,
    functionSql,
    rowTriggerSql: [],
    statementTriggerSql: (relation) => [
      `CREATE OR REPLACE TRIGGER freshvec_delete_${target.source.id} AFTER DELETE ON ${relation}
  REFERENCING OLD TABLE AS fv_old FOR EACH STATEMENT
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
    ],
  };
}
