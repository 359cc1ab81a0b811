import { PACK_KEYS } from '../catalog/pack.js';
import { listMaintainedSpaces, type Space } from '../catalog/space.js';
import { LANES, type Lane } from '../claim/lease.js';
import { oldestSinceSql } from '../claim/pending.js';
import { PAST_LAST_PAGE } from '../claim/range.js';
import type { Executor } from '../db/database.js';

/** What is still to be done in a space, read from freshvec's own tables: cheap however large the source is. */
export interface Pending {
  /** Keys with a change, held or waiting; at most COUNT_LIMIT of each, then the planner's estimate. */
  readonly keys: number;
  /** Rows on the pages of a first load that were not visited yet: the upper bound of what is stale there. */
  readonly unvisited: number;
  /** Keys that a worker holds just now. */
  readonly leased: number;
  readonly failures: number;
  /** Age of the oldest of it; undefined when nothing is pending. */
  readonly oldestSeconds: number | undefined;
}

/** Keys are counted exactly up to so many: a second at most. */
const COUNT_LIMIT = 200_000;

export async function readPending(db: Executor, space: Space): Promise<Pending> {
  const [row] = await db.query<{ keys: number; leased: number; failures: number; oldest: number | null }>(
    `SELECT
       (SELECT count(DISTINCT key) FROM (
          (SELECT key FROM freshvec.change_key WHERE space_id = $1 LIMIT ${COUNT_LIMIT})
          UNION ALL (SELECT key FROM freshvec.lease WHERE space_id = $1 LIMIT ${COUNT_LIMIT})) k) AS keys,
       (SELECT count(*) FROM freshvec.lease WHERE space_id = $1 AND token IS NOT NULL AND expires_at > clock_timestamp()) AS leased,
       (SELECT count(*) FROM freshvec.failure WHERE space_id = $1) AS failures,
       extract(epoch FROM clock_timestamp() - LEAST(
         ${oldestSinceSql('$1')},
         (SELECT s.created_at FROM freshvec.space s WHERE s.id = $1 AND EXISTS (
            SELECT FROM freshvec.range r WHERE r.space_id = s.id AND r.purpose = 'load'))))::float8 AS oldest`,
    [space.id],
  );
  const { keys = 0, leased = 0, failures = 0, oldest = null } = row ?? {};
  return {
    keys: keys < COUNT_LIMIT ? keys : Math.max(keys, await plannedChanges(db, [space.id])),
    unvisited: await unvisitedRows(db, space),
    leased,
    failures,
    oldestSeconds: oldest === null ? undefined : Math.max(0, oldest),
  };
}

/** The planner's estimate of the keys in the change log of these spaces, in one lane or in all. */
export async function plannedChanges(db: Executor, spaceIds: readonly number[], lane?: Lane): Promise<number> {
  const singles =
    lane === undefined
      ? plannedRows(db, 'SELECT FROM freshvec.change WHERE space_id = ANY($1::int[])', [spaceIds])
      : plannedRows(db, 'SELECT FROM freshvec.change WHERE space_id = ANY($1::int[]) AND lane = $2', [spaceIds, lane]);
  const packs = 'SELECT FROM freshvec.change_pack WHERE space_id = ANY($1::int[])';
  const inPacks = lane === LANES.interactive ? 0 : (await plannedRows(db, packs, [spaceIds])) * PACK_KEYS;
  return (await singles) + inPacks;
}

/** Pages still to be visited (the closing visit of all not counted), times the rows that a page of that relation holds. */
async function unvisitedRows(db: Executor, space: Space): Promise<number> {
  const [row] = await db.query<{ rows: number | null }>(
    `SELECT sum(LEAST(r.pages / GREATEST(size.pages, 1.0), 1) * r.live)::float8 AS rows
     FROM (SELECT relation_oid, sum(GREATEST(LEAST(to_page, pages) - from_page, 0))::float8 AS pages, max(live) AS live
           FROM freshvec.range g
           CROSS JOIN LATERAL (
             SELECT pg_relation_size(c.oid) / current_setting('block_size')::int8 AS pages,
               CASE WHEN c.reltuples > 0 AND c.relpages > 0
                 THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::float8)
                 ELSE pg_relation_size(c.oid) / 200.0 END AS live
             FROM pg_class c WHERE c.oid = g.relation_oid) t
           WHERE g.space_id = $1 AND g.purpose = 'load' AND g.to_page < ${PAST_LAST_PAGE} GROUP BY relation_oid) r
     CROSS JOIN LATERAL (
       SELECT pg_relation_size(r.relation_oid::regclass) / current_setting('block_size')::float8 AS pages) size`,
    [space.id],
  );
  return Math.round(row?.rows ?? 0);
}

/** The planner's estimate of a statement's rows: reltuples scaled by the present size, the filter's selectivity in it. */
export async function plannedRows(db: Executor, statement: string, params: readonly unknown[] = []): Promise<number> {
  const [row] = await db.query<{ 'QUERY PLAN': unknown }>(`EXPLAIN (FORMAT JSON) ${statement}`, params);
  const plan: unknown = row?.['QUERY PLAN'];
  const found = /"Plan Rows":\s*(\d+)/.exec(typeof plan === 'string' ? plan : JSON.stringify(plan));
  return Number(found?.[1] ?? 0);
}

/** What is still to be looked at in a maintained space. */
export interface Remaining extends Pick<Pending, 'keys' | 'unvisited'> {
  readonly space: Space;
}

export async function listRemaining(db: Executor): Promise<Remaining[]> {
  const remaining: Remaining[] = [];
  for (const space of await listMaintainedSpaces(db)) {
    const { keys, unvisited } = await readPending(db, space);
    remaining.push({ space, keys, unvisited });
  }
  return remaining;
}

/**
 * Keys that are still to be looked at in all; about, while pages of a first load are among them.
 * @param share of the rows on pages that were not visited that want a vector, 0 to 1; all of them unless told
 */
export async function remainingKeys(db: Executor, share: (space: Space) => number = () => 1): Promise<number> {
  const remaining = await listRemaining(db);
  return remaining.reduce((sum, { space, keys, unvisited }) => sum + keys + Math.round(unvisited * share(space)), 0);
}
