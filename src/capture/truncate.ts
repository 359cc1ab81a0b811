import { callWithSpaces, DOORBELL, definerFunction, type Hook } from './hook.js';
import type { CaptureTarget } from './target.js';

/** TRUNCATE names no rows: the worker compares the space's own table with the source and prunes what is left over. */
export function truncateHook(target: CaptureTarget): Hook {
  const { name, functionSql } = definerFunction(
    target,
    'truncate',
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
    VALUES (__fv_space, 'prune', TG_RELID, 0, 0, 0);
    ${DOORBELL}`,
  );
  const trigger = `freshvec_truncate_${target.source.id}`;
  return {
    name,
    functionSql,
    rowTriggerSql: [],
    statementTriggerSql: (relation) => [
      `CREATE OR REPLACE TRIGGER ${trigger} AFTER TRUNCATE ON ${relation} FOR EACH STATEMENT
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
      // Logical replication runs this one as a statement, so it needs no stand-in.
      `ALTER TABLE ${relation} ENABLE ALWAYS TRIGGER ${trigger}`,
    ],
  };
}
