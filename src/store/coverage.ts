import { eligibleSql, hashSql, keySql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { takeTime } from '../db/timeouts.js';
import type { CoverageCount, PageRange, WrittenIn } from './port.js';
import { pagesOf, writtenSql } from './relation.js';
import type { RowView } from './rows.js';

const EXAMPLES = 5;

/**
 * `Store.uncovered`: the anti-join of rows with changes, leases and failures. One statement, so that a row and what is
 * known of it are of one moment: each passes from one to the next within a transaction.
 */
export async function uncoveredRows(
  tx: Executor,
  source: Source,
  space: Space,
  view: RowView,
  pages: PageRange,
  { xid, when }: WrittenIn,
): Promise<CoverageCount> {
  const { from, where } = await pagesOf(tx, source, pages);
  const written = writtenSql(source, when, '$1');
  await takeTime(tx);
  const [row] = await tx.query<CoverageCount & Record<string, unknown>>(
    `WITH __fv_row AS MATERIALIZED (
       SELECT ${keySql(source.key, source.relation.table)} AS __fv_key, ${hashSql(source)} AS __fv_hash,
         ${eligibleSql(source)} AS __fv_eligible, COALESCE(${view.fresh}, false) AS __fv_fresh, ${view.marked} AS __fv_marked
       FROM ${from} ${view.join} WHERE ${where} AND ${written}
     ), __fv_wrong AS MATERIALIZED (
       SELECT r.*, EXISTS (
           SELECT FROM freshvec.change_key c WHERE c.space_id = ${space.id} AND c.key = r.__fv_key
         ) OR EXISTS (
           SELECT FROM freshvec.lease l WHERE l.space_id = ${space.id} AND l.key = r.__fv_key
         ) AS __fv_pending, (
           SELECT f.discarded FROM freshvec.failure f
           WHERE f.space_id = ${space.id} AND f.key = r.__fv_key AND f.hash = r.__fv_hash
         ) AS __fv_discarded
       FROM __fv_row r WHERE CASE WHEN r.__fv_eligible THEN NOT r.__fv_fresh ELSE r.__fv_marked END
     ), __fv_unknown AS (
       SELECT * FROM __fv_wrong WHERE NOT __fv_pending AND __fv_discarded IS NULL
     )
     SELECT (SELECT count(*) FROM __fv_row WHERE __fv_eligible) AS rows,
       (SELECT count(*) FROM __fv_wrong WHERE __fv_eligible AND NOT __fv_discarded) AS failed,
       count(*) FILTER (WHERE __fv_eligible AND NOT __fv_marked) AS missing,
       count(*) FILTER (WHERE __fv_eligible AND __fv_marked) AS stale,
       count(*) FILTER (WHERE NOT __fv_eligible) AS surplus,
       COALESCE((array_agg(__fv_key))[1:${EXAMPLES}], '{}') AS examples
     FROM __fv_unknown`,
    [xid],
  );
  return row ?? NOTHING;
}

export const NOTHING: CoverageCount = { rows: 0, failed: 0, missing: 0, stale: 0, surplus: 0, examples: [] };

export function addCoverage(a: CoverageCount, b: CoverageCount): CoverageCount {
  return {
    rows: a.rows + b.rows,
    failed: a.failed + b.failed,
    missing: a.missing + b.missing,
    stale: a.stale + b.stale,
    surplus: a.surplus + b.surplus,
    examples: [...a.examples, ...b.examples].slice(0, EXAMPLES),
  };
}
