import { type Source, stillDefinedSql } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { classify } from '../db/errors.js';
import { LANES, LEASE_SECONDS, type LeasedKey, type LeaseRow, toLeasedKey } from './lease.js';

/** What a store must answer for its pages to be visited; `store/port.ts` has the whole. */
export interface RangeVisitor {
  readonly source: Source;
  readonly space: { readonly adoption?: 'open' | 'done' | undefined };
  adopt(
    tx: Executor,
    pages: { relationOid: number; fromPage: number; toPage: number },
    limit: number,
  ): Promise<{ adopted: number; held: number; lockedMs: number }>;
  diff(
    tx: Executor,
    pages: { relationOid: number; fromPage: number; toPage: number },
    limit: number,
  ): Promise<string[]>;
  suspects(tx: Executor, pages: { relationOid: number; fromPage: number; toPage: number }): Promise<string[]>;
  prune(tx: Executor, limit: number): Promise<number>;
}

type RangeRow = {
  id: number;
  purpose: 'load' | 'sweep' | 'prune';
  relation_oid: number;
  filenode: number;
  from_page: number;
  to_page: number;
  present_filenode: number | null;
};

export interface RangeClaim {
  readonly leased: readonly LeasedKey[];
  /** False when no range was free to visit. */
  readonly visited: boolean;
  /** It was a sweep's, for which nobody waits. */
  readonly sweep?: boolean;
  /** Rows whose vector was taken over as it is, and how long they were locked, in ms. */
  readonly adopted?: { readonly rows: number; readonly lockedMs: number };
  /** Nothing could be done: somebody holds the rows whose vectors are to be taken over. */
  readonly blocked?: boolean;
}

/** Behind every page that a relation may have: a range from 0 to it is the relation as a whole. */
export const PAST_LAST_PAGE = 4_294_967_295;

/** Vectors without a row that one visit of a prune range removes at most. */
const PRUNE_LIMIT = 1000;

/**
 * Visits one range of pages that nobody else visits just now and leases up to `limit` of its keys that are not as they
 * should be. A range in which nothing is left to lease is deleted. Done rows are told by their hash, not by a cursor,
 * so a range may be visited any number of times.
 *
 * While the space's adoption is open, a visit first takes over up to `adopt` vectors that are there, and then ends: their
 * locks are held for that alone. Adoption is over once no range is left.
 */
export async function claimRange(
  db: Database,
  spaceId: number,
  visitor: RangeVisitor,
  claim: { token: string; worker: string; limit: number; adopt?: number },
): Promise<RangeClaim> {
  let visiting: RangeRow | undefined;
  try {
    let doneAt = 0;
    const result = await db.tx(async (tx): Promise<RangeClaim> => {
      visiting = await takeRange(tx, spaceId, visitor.source);
      const visited = visiting ? await visit(tx, spaceId, visitor, visiting, claim) : { leased: [], visited: false };
      if (visitor.space.adoption === 'open') await endAdoption(tx, spaceId);
      doneAt = performance.now();
      return visited;
    });
    const sweep = visiting?.purpose === 'sweep';
    if (!result.adopted) return { ...result, sweep };
    // Locks last until the commit is done.
    const { rows, lockedMs } = result.adopted;
    return { ...result, sweep, adopted: { rows, lockedMs: lockedMs + performance.now() - doneAt } };
  } catch (error) {
    if (classify(error) !== 'data' || visiting === undefined) throw error;
    const { id } = visiting;
    return db.tx((tx) => narrow(tx, spaceId, visitor, id, claim));
  }
}

type ClaimOptions = Parameters<typeof claimRange>[3];

async function visit(
  tx: Executor,
  spaceId: number,
  visitor: RangeVisitor,
  range: RangeRow,
  { token, worker, limit, adopt = limit }: ClaimOptions,
): Promise<RangeClaim> {
  if (range.purpose === 'prune') {
    if ((await visitor.prune(tx, PRUNE_LIMIT)) < PRUNE_LIMIT) await dropRange(tx, range.id);
    return { leased: [], visited: true };
  }
  if (range.present_filenode !== range.filenode) {
    await replaceRewritten(tx, spaceId, range);
    return { leased: [], visited: true };
  }
  let blocked = false;
  if (visitor.space.adoption === 'open') {
    const { adopted, held, lockedMs } = await visitor.adopt(tx, pagesOf(range), adopt);
    if (adopted > 0) return { leased: [], visited: true, adopted: { rows: adopted, lockedMs } };
    blocked = held > 0;
  }
  const keys = await visitor.diff(tx, pagesOf(range), limit);
  if (blocked) await putLast(tx, range.id);
  else if (keys.length < limit) await dropRange(tx, range.id);
  const leased = await leaseKeys(tx, spaceId, keys, token, worker);
  return { leased, visited: true, blocked: blocked && leased.length === 0 };
}

/** Pages with rows that somebody holds do not keep the others waiting. */
async function putLast(tx: Executor, id: number): Promise<void> {
  await tx.query(
    `WITH range AS (DELETE FROM freshvec.range WHERE id = $1 RETURNING *)
     INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     SELECT space_id, purpose, relation_oid, filenode, from_page, to_page FROM range`,
    [id],
  );
}

/** Every page was visited: from here on a vector without a hash is one that freshvec did not make. */
async function endAdoption(tx: Executor, spaceId: number): Promise<void> {
  await tx.query(
    `UPDATE freshvec.space SET adoption = 'done'
     WHERE id = $1 AND adoption = 'open' AND NOT EXISTS (SELECT FROM freshvec.range r WHERE r.space_id = $1)`,
    [spaceId],
  );
}

/**
 * The content of some row in the range cannot be had (a cast that fails, say). The range is halved, down to one page,
 * all of whose keys are then leased: the reading finds the row, and the others are not kept waiting for it.
 */
async function narrow(
  tx: Executor,
  spaceId: number,
  visitor: RangeVisitor,
  id: number,
  { token, worker }: ClaimOptions,
): Promise<RangeClaim> {
  const [range] = await tx.query<RangeRow & { pages: number }>(
    `SELECT r.id, r.purpose, r.relation_oid::int8, r.filenode::int8, r.from_page, r.to_page,
       pg_relation_size(r.relation_oid::regclass) / current_setting('block_size')::int AS pages
     FROM freshvec.range r WHERE r.id = $1 FOR UPDATE SKIP LOCKED`,
    [id],
  );
  if (!range) return { leased: [], visited: true };
  await dropRange(tx, id);
  const end = Math.min(range.to_page, range.pages);
  if (end - range.from_page <= 1) {
    const keys = await visitor.suspects(tx, pagesOf(range));
    return { leased: await leaseKeys(tx, spaceId, keys, token, worker), visited: true };
  }
  const middle = Math.floor((range.from_page + end) / 2);
  await tx.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     VALUES ($1, $2, $3, $4, $5, $6), ($1, $2, $3, $4, $6, $7)`,
    [spaceId, range.purpose, range.relation_oid, range.filenode, range.from_page, middle, range.to_page],
  );
  return { leased: [], visited: true };
}

function pagesOf(range: RangeRow): { relationOid: number; fromPage: number; toPage: number } {
  return { relationOid: range.relation_oid, fromPage: range.from_page, toPage: range.to_page };
}

/** A worker that knows the source from before an `alter` would find rows in order that are not. */
async function takeRange(tx: Executor, spaceId: number, source: Source): Promise<RangeRow | undefined> {
  const [row] = await tx.query<RangeRow>(
    `SELECT r.id, r.purpose, r.relation_oid::int8, r.filenode::int8, r.from_page, r.to_page,
       pg_relation_filenode(r.relation_oid::regclass)::int8 AS present_filenode
     FROM freshvec.range r WHERE r.space_id = $1 AND ${stillDefinedSql(source)} ORDER BY r.id LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [spaceId],
  );
  return row;
}

async function dropRange(tx: Executor, id: number): Promise<void> {
  await tx.query('DELETE FROM freshvec.range WHERE id = $1', [id]);
}

/**
 * VACUUM FULL, CLUSTER and the like move rows to other pages: the pages still to be visited mean nothing any more, so
 * the relation is visited anew as a whole. A relation that was dropped has nothing to visit.
 */
async function replaceRewritten(tx: Executor, spaceId: number, range: RangeRow): Promise<void> {
  await tx.query(`DELETE FROM freshvec.range WHERE space_id = $1 AND relation_oid = $2 AND filenode = $3`, [
    spaceId,
    range.relation_oid,
    range.filenode,
  ]);
  if (range.present_filenode === null) return;
  await tx.query(
    `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
     SELECT $1, $2, $3, $4, v.from_page, v.to_page FROM (
       SELECT p, p + 64 FROM generate_series(0, pg_relation_size($3::oid::regclass) / current_setting('block_size')::int, 64) p
       UNION ALL SELECT 0, ${PAST_LAST_PAGE}) v(from_page, to_page)`,
    [spaceId, range.purpose, range.relation_oid, range.present_filenode],
  );
}

async function leaseKeys(tx: Executor, spaceId: number, keys: string[], token: string, worker: string) {
  if (keys.length === 0) return [];
  const rows = await tx.query<LeaseRow>(
    `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, lane, since)
     SELECT $1, key, $2::uuid, $3, clock_timestamp() + make_interval(secs => $5), $6, now()
     FROM unnest($4::text[]) AS k(key) ORDER BY key COLLATE "C"
     ON CONFLICT (space_id, key) DO NOTHING
     RETURNING key, attempts, losses, force`,
    [spaceId, token, worker, keys, LEASE_SECONDS, LANES.bulk],
  );
  return rows.map(toLeasedKey);
}
