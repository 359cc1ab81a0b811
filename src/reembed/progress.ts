import type { Source } from '../catalog/source.js';
import { isLoaded } from '../claim/pending.js';
import { PAST_LAST_PAGE } from '../claim/range.js';
import type { Executor } from '../db/database.js';

/** How far the first pass over a new space is. */
export interface Progress {
  /** Nothing is left of the first pass but what edits bring. */
  readonly loaded: boolean;
  /** Share of the rows, by pages visited; 0 to 1. */
  readonly share: number;
}

export async function loadProgress(db: Executor, source: Source, spaceId: number): Promise<Progress> {
  const [row] = await db.query<{ left: number | null; pages: number | null; ranges: number }>(
    `SELECT
       (SELECT sum(least(r.to_page, pg_relation_size(r.relation_oid::regclass) / current_setting('block_size')::int) - r.from_page)
        FROM freshvec.range r WHERE r.space_id = $1 AND r.purpose = 'load' AND r.to_page < ${PAST_LAST_PAGE}
          AND EXISTS (SELECT FROM pg_class c WHERE c.oid = r.relation_oid))::int8 AS left,
       (SELECT sum(pg_relation_size(c.oid) / current_setting('block_size')::int) FROM pg_class c
        WHERE c.relkind = 'r' AND (c.oid = $2::oid OR c.oid IN (SELECT relid FROM pg_partition_tree($2::oid::regclass))))::int8 AS pages,
       (SELECT count(*) FROM freshvec.range r WHERE r.space_id = $1 AND r.purpose = 'load') AS ranges`,
    [spaceId, source.relation.oid],
  );
  if (!row) return { loaded: false, share: 0 };
  const loaded = await isLoaded(db, spaceId);
  const share = row.ranges === 0 ? 1 : 1 - Math.max(0, row.left ?? 0) / Math.max(1, row.pages ?? 1);
  return { loaded, share: Math.min(1, Math.max(0, share)) };
}
