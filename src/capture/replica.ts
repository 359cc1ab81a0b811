import { keySql } from '../catalog/expressions.js';
import { ident } from '../db/identifiers.js';
import { callWithSpaces, DOORBELL, definerFunction, type Hook, tenantSql } from './hook.js';
import { type CaptureTarget, changedSql } from './target.js';

/**
 * Logical replication and session_replication_role = replica fire no statement triggers of ours; this row trigger fires
 * there and nowhere else.
 */
export function replicaHook(target: CaptureTarget): Hook {
  const { tables, flag, overruled, source } = target;
  const compares = flag === undefined || tables || overruled;
  const body = compares ? comparing(target) : byFlag(target, ident(flag));
  const named = [compares ? changedSql(target, 'OLD', 'NEW') : `NEW.${ident(flag)}`];
  for (const row of ['old', 'new']) named.push(keySql(source.key, row), tenantSql(target, row));
  const { name, functionSql } = definerFunction(target, 'replica', body, named.join(', '));
  const trigger = `freshvec_replica_${source.id}`;
  const [root = ''] = target.relations;
  return {
    name,
    functionSql,
    rowTriggerSql: [
      `CREATE OR REPLACE TRIGGER ${trigger} AFTER INSERT OR UPDATE${tables ? ' OR DELETE' : ''} ON ${root} FOR EACH ROW
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
      `ALTER TABLE ${root} ENABLE REPLICA TRIGGER ${trigger}`,
    ],
    statementTriggerSql: () => [],
  };
}

function byFlag(target: CaptureTarget, flag: string): string {
  return `IF TG_OP = 'INSERT' OR NEW.${flag} THEN
    ${enqueue(target, 'new')}
  END IF;`;
}

function comparing(target: CaptureTarget): string {
  const { key } = target.source;
  return `IF TG_OP = 'DELETE' THEN
    ${enqueue(target, 'old')}
  ELSIF TG_OP = 'INSERT' THEN
    ${enqueue(target, 'new')}
  ELSIF ${changedSql(target, 'OLD', 'NEW')} THEN
    IF ${keySql(key, 'old')} <> ${keySql(key, 'new')} THEN
      ${enqueue(target, 'old')}
    END IF;
    ${enqueue(target, 'new')}
  END IF;`;
}

function enqueue(target: CaptureTarget, row: 'old' | 'new'): string {
  return `INSERT INTO freshvec.change (space_id, key, tenant)
    VALUES (__fv_space, ${keySql(target.source.key, row)}, ${tenantSql(target, row)});
    ${DOORBELL}`;
}
