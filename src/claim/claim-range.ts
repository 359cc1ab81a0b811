import type { Source } from '../catalog/source.js';
import { cancellable } from '../db/cancel.js';
import type { Database, Executor, StatementOptions } from '../db/database.js';
import { classify } from '../db/errors.js';
import { endsSql, whileWanted } from './ending.js';
import { LANES, LEASE_SECONDS, type LeasedKey, type LeaseRow, toLeasedKey } from './lease.js';
import {
  dropRange,
  dropRangesOf,
  insertHalves,
  isLong,
  putLast,
  type RangeRow,
  replaceRewritten,
  takeRange,
  takeRangeAgain,
} from './range.js';

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
  orphans(tx: Executor, limit: number): Promise<string[]>;
}

export interface RangeClaim {
  readonly leased: readonly LeasedKey[];
  /** False when no range was free to visit, or the first one is `long`. */
  readonly visited: boolean;
  /** What is to be visited is more than edits may wait for: `visitLong`. */
  readonly long?: boolean;
  /** It was a sweep's, for which nobody waits. */
  readonly sweep?: boolean;
  /** Rows whose vector was taken over as it is, and how long they were locked, in ms. */
  readonly adopted?: { readonly rows: number; readonly lockedMs: number };
  /** Nothing could be done: somebody holds the rows whose vectors are to be taken over. */
  readonly blocked?: boolean;
}

const NOTHING: RangeClaim = { leased: [], visited: false };

/** How one range is visited. */
interface Visiting {
  /** Keys that are not as they should be, at most. */
  readonly limit: number;
  /** Vectors that are taken over, at most. */
  readonly adopt: number;
  /** Has the keys that were found seen to; with `last` the visit's transaction may end with it. Resolves to those that are leased now. */
  readonly hand: (tx: Executor, keys: string[], options?: StatementOptions) => Promise<LeasedKey[]>;
  /** Ends it; nothing has been done then. */
  readonly stop?: AbortSignal;
}

/**
 * Visits one range of pages that nobody else visits just now and leases up to `limit` of its keys that are not as they
 * should be. A range in which nothing is left to lease is deleted. Done rows are told by their hash, not by a cursor,
 * so a range may be visited any number of times. One that takes long is left to `visitLong`.
 *
 * While the space's adoption is open, a visit first takes over up to `adopt` vectors that are there, and then ends: their
 * locks are held for that alone. Adoption is over once no range is left.
 */
export function claimRange(
  db: Database,
  spaceId: number,
  visitor: RangeVisitor,
  { token, worker, limit, adopt = limit }: { token: string; worker: string; limit: number; adopt?: number },
): Promise<RangeClaim> {
  const hand: Visiting['hand'] = (tx, keys, options) => leaseKeys(tx, spaceId, keys, { token, worker }, options);
  return visitFirst(db, spaceId, visitor, { limit, adopt, hand }, async (_, range) => !isLong(range));
}

/** Keys that a long visit puts in the line at most. */
const LONG_LIMIT = 10_000;

/**
 * Visits a range that takes long. Whoever asks goes on with edits meanwhile and leases nothing: the keys that it finds go
 * into the line of bulk changes, and while there is anything in that line no such visit begins, since it would find the
 * same ones. Where `stop` ends it, its reason is thrown, and the range is as it was. So it is where the space is to be
 * dropped, which ends it too.
 */
export async function visitLong(
  db: Database,
  spaceId: number,
  visitor: RangeVisitor,
  { adopt, stop }: { adopt: number; stop: AbortSignal },
): Promise<RangeClaim> {
  const hand = async (tx: Executor, keys: string[]) => {
    await tx.query('INSERT INTO freshvec.change (space_id, lane, key) SELECT $1, $2, unnest($3::text[])', [
      spaceId,
      LANES.bulk,
      keys,
    ]);
    return [];
  };
  const may = async (tx: Executor) => !(await inVain(tx, spaceId));
  return whileWanted(db, spaceId, async (ends) => {
    const how = { limit: LONG_LIMIT, adopt, hand, stop: AbortSignal.any([stop, ends]) };
    return visitFirst(db, spaceId, visitor, how, may).catch((error: unknown) => {
      if (ends.aborted && !stop.aborted) return NOTHING;
      throw error;
    });
  });
}

/** What a visit found would be there already, or would be of no use. */
async function inVain(tx: Executor, spaceId: number): Promise<boolean> {
  const [row] = await tx.query<{ vain: boolean }>(
    `SELECT EXISTS (SELECT FROM freshvec.change WHERE space_id = $1 AND lane = $2)
       OR EXISTS (SELECT FROM freshvec.change_pack WHERE space_id = $1) OR ${endsSql('$1')} AS vain`,
    [spaceId, LANES.bulk],
  );
  return row?.vain ?? false;
}

/** Visits the first range that is free, if it `may` be visited. */
async function visitFirst(
  db: Database,
  spaceId: number,
  visitor: RangeVisitor,
  how: Visiting,
  may: (tx: Executor, range: RangeRow) => Promise<boolean>,
): Promise<RangeClaim> {
  let visiting: RangeRow | undefined;
  try {
    let doneAt = 0;
    const result = await db.tx(
      async (tx): Promise<RangeClaim> => {
        const range = await takeRange(tx, spaceId, visitor.source);
        if (range && !(await may(tx, range))) return { ...NOTHING, long: true };
        visiting = range;
        const visited = range
          ? await cancellable(db, tx, how.stop, () => visit(tx, spaceId, visitor, range, how))
          : NOTHING;
        if (visitor.space.adoption === 'open') await endAdoption(tx, spaceId);
        doneAt = performance.now();
        return { ...visited, sweep: range?.purpose === 'sweep' };
      },
      { eager: true },
    );
    if (!result.adopted) return result;
    // Locks last until the commit is done.
    const { rows, lockedMs } = result.adopted;
    return { ...result, adopted: { rows, lockedMs: lockedMs + performance.now() - doneAt } };
  } catch (error) {
    // A prune range has no pages to be halved, and no row's content is computed there.
    if (classify(error) !== 'data' || visiting === undefined || visiting.purpose === 'prune') throw error;
    const { id } = visiting;
    return db.tx((tx) => narrow(tx, spaceId, visitor, id, how));
  }
}

async function visit(
  tx: Executor,
  spaceId: number,
  visitor: RangeVisitor,
  range: RangeRow,
  { limit, adopt, hand }: Visiting,
): Promise<RangeClaim> {
  if (range.purpose === 'prune') {
    const keys = await visitor.orphans(tx, limit);
    if (keys.length < limit) await dropRange(tx, range.id);
    return { leased: await hand(tx, keys), visited: true };
  }
  // Its rows are found no more through the source: whoever leased their keys would settle them, and find them again.
  if (!range.within) {
    await dropRangesOf(tx, spaceId, range.relation_oid);
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
  const leased = await hand(tx, keys, { last: visitor.space.adoption !== 'open' });
  return { leased, visited: true, blocked: blocked && leased.length === 0 };
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
 * all of whose keys are then taken: the reading finds the row, and the others are not kept waiting for it.
 */
async function narrow(
  tx: Executor,
  spaceId: number,
  visitor: RangeVisitor,
  id: number,
  { hand }: Visiting,
): Promise<RangeClaim> {
  const range = await takeRangeAgain(tx, id, visitor.source);
  if (!range) return { leased: [], visited: true };
  await dropRange(tx, id);
  const end = Math.min(range.to_page, range.pages ?? 0);
  if (end - range.from_page <= 1) {
    const keys = await visitor.suspects(tx, pagesOf(range));
    return { leased: await hand(tx, keys), visited: true };
  }
  await insertHalves(tx, spaceId, range, Math.floor((range.from_page + end) / 2));
  return { leased: [], visited: true };
}

function pagesOf(range: RangeRow): { relationOid: number; fromPage: number; toPage: number } {
  return { relationOid: range.relation_oid, fromPage: range.from_page, toPage: range.to_page };
}

async function leaseKeys(
  tx: Executor,
  spaceId: number,
  keys: string[],
  { token, worker }: { readonly token: string; readonly worker: string },
  options?: StatementOptions,
): Promise<LeasedKey[]> {
  if (keys.length === 0) return [];
  const rows = await tx.query<LeaseRow>(
    `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, lane, since)
     SELECT $1, key, $2::uuid, $3, clock_timestamp() + make_interval(secs => $5), $6, now()
     FROM unnest($4::text[]) AS k(key) ORDER BY key COLLATE "C"
     ON CONFLICT (space_id, key) DO NOTHING
     RETURNING key, attempts, losses, force`,
    [spaceId, token, worker, keys, LEASE_SECONDS, LANES.bulk],
    options,
  );
  return rows.map(toLeasedKey);
}
