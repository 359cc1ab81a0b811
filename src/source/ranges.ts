import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import { PAST_LAST_PAGE } from '../claim/range.js';
import type { Executor } from '../db/database.js';
import { literal } from '../db/identifiers.js';

export type RangePurpose = 'load' | 'sweep';

/** Pages of one range, and how many ranges a relation has at most; beyond that the ranges grow. */
const RANGE_PAGES = 64;
const MOST_RANGES = 4096;

/**
 * Has every page of the source visited once more: rows of ranges for each of its leaves, as they stand now. To be run
 * after capture is installed, in the same transaction, so that whatever comes later is captured.
 *
 * An update of columns that freshvec does not watch moves a row to another page, past the visitor, and nobody captures
 * it. So each leaf is `closed` by one more visit of it as a whole: a statement sees every row once, in its snapshot.
 * Where only `part` of the rows is wanted at first, ranges are so small that one more or less does not matter.
 */
export function rangesSql(
  source: Pick<Source, 'relation'>,
  spaceId: number,
  purpose: RangePurpose,
  { closed = true, part = 1 }: { readonly closed?: boolean; readonly part?: number } = {},
): string {
  const relation = `${literal(fromSource(source))}::regclass`;
  const steps = part < 1 ? `1, least(${RANGE_PAGES}, floor(size.pages * ${part} / 4)::bigint)` : RANGE_PAGES;
  return `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
SELECT ${spaceId}, '${purpose}', leaf.oid, pg_relation_filenode(leaf.oid), visit.from_page, visit.to_page
FROM (
  SELECT size.oid, size.pages, greatest(${steps}, (size.pages + ${MOST_RANGES - 1}) / ${MOST_RANGES}) AS step
  FROM (
    SELECT c.oid, pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages FROM pg_class c
    WHERE c.relkind = 'r'
      AND (c.oid = ${relation} OR c.oid IN (SELECT relid FROM pg_partition_tree(${relation})))
  ) size
) leaf CROSS JOIN LATERAL (
  SELECT 1 AS turn, page AS from_page, least(page + leaf.step, leaf.pages) AS to_page
  FROM generate_series(0, leaf.pages - 1, leaf.step) AS page${closed ? `\n  UNION ALL SELECT 2, 0, ${PAST_LAST_PAGE}` : ''}
) visit
ORDER BY visit.turn, leaf.oid, visit.from_page`;
}

/** Runs `rangesSql`. `load` is a space's first pass, `sweep` a later look at every row; what that misses the next finds. */
export async function insertLoadRanges(
  tx: Executor,
  source: Pick<Source, 'relation'>,
  spaceId: number,
  purpose: RangePurpose,
): Promise<void> {
  await tx.query(rangesSql(source, spaceId, purpose, { closed: purpose === 'load' }));
}
