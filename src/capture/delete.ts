import { keySql } from '../catalog/expressions.js';
import { type Hook, statementHook, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/** Vectors in a table of their own must go when their row goes: the worker finds the row gone and removes them. */
export function deleteHook(target: CaptureTarget): Hook {
  return statementHook(target, {
    verb: 'delete',
    event: 'DELETE',
    referencing: 'OLD TABLE AS fv_old',
    key: keySql(target.source.key, 'fv_old'),
    tenant: tenantSql(target, 'fv_old'),
    from: 'fv_old',
    counted: 'fv_old',
  });
}
