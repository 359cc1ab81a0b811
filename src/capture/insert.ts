import { keySql } from '../catalog/expressions.js';
import { type Hook, statementHook, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/** Every inserted row is a change. Fires only for the table that a statement names, so it stands on each. */
export function insertHook(target: CaptureTarget): Hook {
  return statementHook(target, {
    verb: 'insert',
    event: 'INSERT',
    referencing: 'NEW TABLE AS fv_new',
    key: keySql(target.source.key, 'fv_new'),
    tenant: tenantSql(target, 'fv_new'),
    from: 'fv_new',
    counted: 'fv_new',
  });
}
