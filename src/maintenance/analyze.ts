import type { Database, Executor } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { longSession } from '../store/index-session.js';
import type { VectorRelation } from '../store/own-index.js';
import { forEach } from './for-each.js';
import { logged } from './run-log.js';
import { assertFree, listTargets } from './targets.js';

export interface AnalyzeOptions {
  readonly byPerson: boolean;
  /** One source; all of them unless told. */
  readonly source?: string | undefined;
  readonly lockTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Rows that must have changed, and their share, as autovacuum has it; it never looks at a partitioned parent. */
const MIN_CHANGED = 1_000;
const CHANGED_SHARE = 0.1;

/**
 * Gathers the planner's statistics where there are none or too many rows changed since: without, a filtered search may
 * choose the wrong plan, and the size of an index is compared with the wrong number of vectors. Resolves to how many
 * tables were analyzed.
 */
export async function analyze(db: Database, options: AnalyzeOptions): Promise<number> {
  let analyzed = 0;
  const seen = new Set<number>(); // Two sources may share a table.
  await forEach(await listTargets(db, options.source), async ({ source, relations }) => {
    for (const relation of relations) {
      if (seen.has(relation.oid)) continue;
      seen.add(relation.oid);
      options.signal?.throwIfAborted();
      const why = relation.partitioned ? await whyParent(db, relation) : await whyTable(db, relation);
      if (why === undefined) continue;
      const about = {
        ...{ service: 'analyze', byPerson: options.byPerson, source: source.name },
        ...{ relation: `${relation.schema}.${relation.name}`, did: `analyzing: ${why}` },
      };
      const done = await logged(db, about, async (notes) => {
        await assertFree(db, relation);
        await longSession(db, options, (session) =>
          session.query(`ANALYZE ${qualified(relation.schema, relation.name)}`),
        );
        notes.did = `analyzed: ${why}`;
      });
      if (done) analyzed += 1;
    }
  });
  return analyzed;
}

async function whyTable(db: Executor, { oid }: VectorRelation): Promise<string | undefined> {
  const [row] = await db.query<{ changed: number; never: boolean; rows: number }>(
    `SELECT s.n_mod_since_analyze AS changed, c.reltuples < 0 AS never, s.n_live_tup AS rows
     FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = $1::int8::oid
       AND (s.n_mod_since_analyze >= greatest($2::float8, $3::float8 * c.reltuples)
         OR (c.reltuples < 0 AND s.n_live_tup >= $2))`,
    [oid, MIN_CHANGED, CHANGED_SHARE],
  );
  if (!row) return undefined;
  return row.never ? `${row.rows} rows, never looked at` : `${row.changed} rows changed since the last time`;
}

/** By what its leaves have become, in rows. */
async function whyParent(db: Executor, { oid }: VectorRelation): Promise<string | undefined> {
  const [row] = await db.query<{ now: number; then: number }>(
    `SELECT now.rows AS now, p.reltuples::float8 AS "then" FROM pg_class p, LATERAL (
       SELECT COALESCE(sum(greatest(l.reltuples, 0)), 0)::float8 AS rows
       FROM pg_partition_tree(p.oid) t JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf) now
     WHERE p.oid = $1::int8::oid AND now.rows >= $2::float8 AND (p.reltuples < 0
       OR abs(now.rows - p.reltuples) >= greatest($2::float8, $3::float8 * p.reltuples))`,
    [oid, MIN_CHANGED, CHANGED_SHARE],
  );
  if (!row) return undefined;
  return row.then < 0
    ? 'autovacuum never looks at a partitioned table as a whole'
    : `${Math.round(row.then)} rows have become ${Math.round(row.now)}`;
}
