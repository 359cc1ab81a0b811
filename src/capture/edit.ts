import { keySql } from '../catalog/expressions.js';
import { ident } from '../db/identifiers.js';
import { type Hook, statementHook, tenantSql } from './hook.js';
import { type CaptureTarget, changedSql } from './target.js';

/**
 * Where the flag does not tell: vectors are in a table of their own, or the app's own triggers have the last word on a
 * row. Old and new rows are joined by key. A key that went away is a change too, since its vector must go.
 *
 * It stands in for `update` under the same name, so that CREATE OR REPLACE leaves one of them, never both.
 */
export function editHook(target: CaptureTarget): Hook {
  const { key } = target.source;
  const sameKey = key.map(({ name }) => `fv_old.${ident(name)} = fv_new.${ident(name)}`).join(' AND ');
  const first = ident(key[0]?.name ?? '');
  const either = (before: string, after: string) =>
    `CASE WHEN fv_new.${first} IS NULL THEN ${before} ELSE ${after} END`;
  return statementHook(target, {
    verb: 'update',
    event: 'UPDATE',
    referencing: 'OLD TABLE AS fv_old NEW TABLE AS fv_new',
    key: either(keySql(key, 'fv_old'), keySql(key, 'fv_new')),
    tenant: either(tenantSql(target, 'fv_old'), tenantSql(target, 'fv_new')),
    from: `fv_new FULL JOIN fv_old ON ${sameKey}`,
    where: changedSql(target, 'fv_old', 'fv_new'),
    counted: 'fv_new',
  });
}
