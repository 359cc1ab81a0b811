import { FreshvecError } from '../db/errors.js';
import { deleteHook } from './delete.js';
import { editHook } from './edit.js';
import { flagHook } from './flag.js';
import type { Hook } from './hook.js';
import { insertHook } from './insert.js';
import { replicaHook } from './replica.js';
import type { CaptureTarget } from './target.js';
import { truncateHook } from './truncate.js';
import { updateHook } from './update.js';

/** What each trigger function does; `<verb>_<source id>` in the schema freshvec. */
export const VERBS = ['flag', 'insert', 'update', 'delete', 'truncate', 'replica'] as const;

/** The triggers that a source with these stores needs. */
export function hooks(target: CaptureTarget): Hook[] {
  const { flag, tables, overruled } = target;
  return [
    ...(flag === undefined ? [] : [flagHook(target, flag)]),
    insertHook(target),
    ...(flag === undefined || tables || overruled ? [editHook(target)] : [updateHook(target, flag)]),
    ...(tables ? [deleteHook(target), truncateHook(target)] : []),
    replicaHook(target),
  ];
}

/** Defines the functions; takes no lock on the source. Every statement may be run again. */
export function functionsSql(target: CaptureTarget): string[] {
  if (target.gone.length > 0) throw new ColumnsGone(target);
  const all = hooks(target);
  return [
    ...all.map((hook) => hook.functionSql),
    `REVOKE ALL ON FUNCTION ${all.map((hook) => `${hook.name}()`).join(', ')} FROM PUBLIC`,
  ];
}

/** Triggers without a column that the source reads would leave its edits unseen. Code `columns_gone`. */
class ColumnsGone extends FreshvecError {
  constructor({ source: { name, relation }, gone }: CaptureTarget) {
    super(
      'columns_gone',
      `${relation.schema}.${relation.table} has no column ${gone.join(', ')} any more, which the source "${name}" reads: bring it back, or \`freshvec source alter ${name}\`.`,
    );
  }
}

/** Puts the triggers on; SHARE ROW EXCLUSIVE on the source and all below it. Every statement may be run again. */
export function triggersSql(target: CaptureTarget): string[] {
  return [
    ...hooks(target).flatMap((hook) => hook.rowTriggerSql),
    ...target.relations.flatMap((relation) => statementTriggersSql(target, relation)),
  ];
}

/** What one more partition needs; SHARE ROW EXCLUSIVE on it alone. */
export function statementTriggersSql(target: CaptureTarget, relation: string): string[] {
  return hooks(target).flatMap((hook) => hook.statementTriggerSql(relation));
}
