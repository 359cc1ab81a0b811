import { qualified } from '../../db/identifiers.js';
import type { PlanFact } from '../definition.js';
import type { Findings, PlanContext } from './context.js';

/** Below this much free room per page, a lower fillfactor would waste more than it saves. */
const LOWEST_FILLFACTOR = 30;

/** A share from which on the advice to change the fillfactor is worth its rewrite. */
const USEFUL = 0.8;

/**
 * How many updates touch no index (HOT): measured of the app's, worked out for the backfill's. A new version of a row is
 * HOT where its page has room for it; with fillfactor 100, 70 and 50 and rows that keep their size that was 0, 43 and
 * 100 % (measured), which is the free part of a page over its full part.
 */
export function measureHot({ source, to, table, sizes }: PlanContext): Findings {
  const { updates, hotUpdates, fillfactor } = table;
  const measured: PlanFact = {
    name: 'hotShare',
    value: updates === 0 ? null : hotUpdates / updates,
    unit: 'share',
    note:
      updates === 0
        ? 'no update was counted on this table yet'
        : `of ${Math.round(updates)} updates since the statistics were reset touched no index (HOT)`,
  };
  const setting: PlanFact = { name: 'fillfactor', value: fillfactor, unit: 'count', note: 'percent of a page' };
  if (to.store === 'table') return { facts: [measured, setting] };
  const grown = Math.max(1, sizes.rowAfter / Math.max(sizes.rowBefore, 1));
  const shareAt = (percent: number) => Math.min(1, (100 - percent) / percent / grown);
  const best = Math.max(LOWEST_FILLFACTOR, Math.floor(100 / (1 + grown)));
  const words = [fillfactor, 70, 50, best]
    .filter((percent, i, all) => percent <= fillfactor && all.indexOf(percent) === i)
    .map((percent) => `${Math.round(shareAt(percent) * 100)} % at ${percent}`)
    .join(', ');
  const expected = shareAt(fillfactor);
  return {
    facts: [
      measured,
      { ...setting, note: `percent of a page; backfill updates that are HOT: ${words}` },
      {
        name: 'backfillHotShare',
        value: expected,
        unit: 'share',
        note: 'of the backfill, worked out from the fillfactor; free room on the pages adds to it',
      },
    ],
    notes:
      expected < USEFUL && shareAt(best) >= USEFUL
        ? [
            `A lower fillfactor leaves room for more HOT updates on pages that are written after it: ALTER TABLE ${qualified(source.relation.schema, source.relation.table)} SET (fillfactor = ${best}), and a rewrite of the table for the pages that are there.`,
          ]
        : [],
  };
}
