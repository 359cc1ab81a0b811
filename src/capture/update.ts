import { keySql } from '../catalog/expressions.js';
import { ident } from '../db/identifiers.js';
import { manyFlaggedSql } from './flag.js';
import { type Hook, statementHook, tenantSql } from './hook.js';
import type { CaptureTarget } from './target.js';

/**
 * Vectors on the source's own rows: of the updated rows, those with the flag are changes. The first row that a
 * transaction changes is written by the flag's trigger; until there is a second, the WHEN keeps this one from being
 * called.
 */
export function updateHook(target: CaptureTarget, flag: string): Hook {
  const flagged = `fv_new.${ident(flag)}`;
  return statementHook(target, {
    verb: 'update',
    event: 'UPDATE',
    referencing: 'NEW TABLE AS fv_new',
    key: keySql(target.source.key, 'fv_new'),
    tenant: tenantSql(target, 'fv_new'),
    from: 'fv_new',
    where: flagged,
    counted: `fv_new WHERE ${flagged}`,
    when: manyFlaggedSql(target),
  });
}
