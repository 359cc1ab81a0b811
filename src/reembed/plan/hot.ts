import { qualified } from '../../db/identifiers.js';
import { MOST_WAVES } from '../../stages/waves.js';
import type { PlanFact } from '../definition.js';
import type { Findings, PlanContext } from './context.js';
import { PAGE } from './heap-layout.js';

/** Below this much free room per page, a lower fillfactor would waste more than it saves. */
const LOWEST_FILLFACTOR = 30;

/** A share from which on the advice to change the fillfactor is worth its rewrite. */
const USEFUL = 0.8;

/** What is known of the table's pages; sizes of a row in bytes. */
interface Pages {
  readonly table: Pick<PlanContext['table'], 'vectorIndexes'>;
  readonly sizes: Pick<PlanContext['sizes'], 'rowBefore' | 'rowAfter'>;
}

/**
 * The part of a backfill's updates that touch no index (HOT), on pages that are filled so far (percent). A new version of
 * a row is HOT where its page has room for it; written all at once, with fillfactor 100, 70 and 50 and rows that keep
 * their size that was 0, 43 and 100 % (measured), which is the free part of a page over its full part. Beside a vector
 * index the rows of a page are written in waves (`stages/waves.ts`), of which the first makes room for the others.
 */
export function backfillHotShare({ table, sizes }: Pages, fillfactor: number): number {
  const grown = growthOf(sizes);
  const free = (100 - fillfactor) / fillfactor;
  if (table.vectorIndexes.length === 0) return Math.min(1, free / grown);
  const onPage = Math.max(1, Math.floor(PAGE / Math.max(sizes.rowBefore, 1)));
  // Where a wave is one row, what it leaves is too small for the next, which has grown: a second one moves.
  const wave = Math.max(Math.ceil(onPage / MOST_WAVES), grown > 1 ? 2 : 1);
  const firstWave = Math.min(1, wave / onPage);
  const moved = free >= firstWave * grown ? 0 : firstWave - free / grown;
  return Math.min(1 - moved, (1 + free) / grown);
}

function growthOf({ rowBefore, rowAfter }: Pages['sizes']): number {
  return Math.max(1, rowAfter / Math.max(rowBefore, 1));
}

/** How many updates touch no index: measured of the app's, worked out for the backfill's. */
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
  const shareAt = (percent: number) => backfillHotShare({ table, sizes }, percent);
  const best = Math.max(LOWEST_FILLFACTOR, Math.floor(100 / (1 + growthOf(sizes))));
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
      (expected < USEFUL || table.vectorIndexes.length > 0) && expected < shareAt(best) && shareAt(best) >= USEFUL
        ? [
            `A lower fillfactor leaves room for more HOT updates on pages that are written after it: ALTER TABLE ${qualified(source.relation.schema, source.relation.table)} SET (fillfactor = ${best}), and a rewrite of the table for the pages that are there.`,
          ]
        : [],
  };
}
