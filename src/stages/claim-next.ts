import { claimBulk } from '../claim/claim-bulk.js';
import { type ChangeClaim, type ChangeClaimOptions, claimChanges } from '../claim/claim-changes.js';
import { claimExpired, claimWaiting } from '../claim/claim-due.js';
import { claimRange, type RangeClaim, visitLong } from '../claim/claim-range.js';
import { LANES, type Lane, type LeasedKey } from '../claim/lease.js';
import type { Priority } from '../embed/gate.js';
import type { DrainContext } from './context.js';

/** Keys that one token holds; none where pages were visited that had none to lease. */
export interface Claim {
  readonly token: string;
  readonly keys: readonly LeasedKey[];
  readonly priority: Priority;
}

type ClaimContext = Pick<
  DrainContext,
  | 'db'
  | 'store'
  | 'worker'
  | 'batchKeys'
  | 'cursor'
  | 'load'
  | 'longVisit'
  | 'stop'
  | 'cut'
  | 'pace'
  | 'visitGate'
  | 'report'
>;

/** Share of a claim that is kept for the bulk lane while both lanes have work. */
const BULK_SHARE = 0.1;
/** Share of what edits leave of a claim that keys which waited may have while the bulk lane has work: edits are among them. */
const WAITS_SHARE = 0.5;

/**
 * Claims the next batch: once a second the leases of silent workers, which steady edits would else keep waiting for
 * ever; then edits, and in what they leave, a tenth at least, keys that waited and bulk changes; last the pages of a
 * first load, which every tenth claim begins with. Undefined when there is nothing to claim just now. Where it fails,
 * `token` may hold some keys all the same: it claims in several statements.
 */
export async function claimNext(context: ClaimContext, token: string): Promise<Claim | undefined> {
  const { db, store, worker, batchKeys, cursor } = context;
  const spaceId = store.space.id;
  const keys: LeasedKey[] = [];
  const room = () => batchKeys - keys.length;

  if (cursor.isDue('expired')) {
    keys.push(...(await claimExpired(db, spaceId, { token, worker })));
    // More of them may be there: they come in small batches, and alone, so that a text that kills workers is found.
    if (keys.length > 0) {
      cursor.lookAgain();
      return { token, keys, priority: 'bulk' };
    }
  }
  if (cursor.isRangesTurn(context.load.isFree())) {
    const pages = await fromRanges(context, token);
    if (pages) return { token, keys: pages, priority: 'load' };
  }
  const bulkFromId = cursor.start(LANES.bulk);
  let bulk = false;
  let waits = false;
  const claimEdits = async (claim: ChangeClaimOptions) => {
    const answer = await claimChanges(db, spaceId, { ...claim, bulkFromId });
    ({ bulk, waits } = answer);
    return answer;
  };
  const takeWaiting = async (limit: number) => {
    if (!waits || limit <= 0) return;
    const due = await claimWaiting(db, spaceId, { token, worker, limit });
    keys.push(...due);
    waits = due.length === limit;
  };
  const editShare = Math.ceil(batchKeys * (1 - BULK_SHARE));
  keys.push(...(await fromLane(context, claimEdits, LANES.interactive, token, editShare)));
  const edits = keys.length > 0;
  const claimPacks = (claim: ChangeClaimOptions) => claimBulk(db, spaceId, claim);
  if (bulk) {
    await takeWaiting(Math.ceil(room() * WAITS_SHARE));
    keys.push(...(await fromLane(context, claimPacks, LANES.bulk, token, room(), bulkFromId)));
  }
  await takeWaiting(room());
  if (keys.length > 0) return { token, keys, priority: edits ? 'interactive' : 'bulk' };
  const pages = await fromRanges(context, token);
  return pages && { token, keys: pages, priority: 'load' };
}

/** How long pages are visited that have no key to lease before edits are looked for again, in ms. */
const VISITS_MS = 50;
/** How soon pages are visited again in which somebody holds every row that is left, in ms; or 4 times what a visit takes. */
const BLOCKED_REST_MS = 100;
/** Share of the time that pages are looked at in a sweep: nobody waits for it, and it reads the whole table. */
const SWEEP_SHARE = 0.25;

/**
 * Claims from the pages of a first load or a sweep, on to the first that has a key to lease. Resolves to no keys once
 * pages were visited in vain for a while, and to undefined when there is nothing to do there just now.
 */
async function fromRanges(context: ClaimContext, token: string): Promise<readonly LeasedKey[] | undefined> {
  const { load, stop } = context;
  const began = performance.now();
  const elapsedMs = () => performance.now() - began;
  let visits = 0;
  let share = 1;
  while (!stop.aborted && load.isFree() && elapsedMs() < VISITS_MS) {
    const visitAt = performance.now();
    const range = await visitRange(context, token);
    if (range.long) context.longVisit.begin((ended) => visitBeside(context, ended));
    if (!range.visited) break;
    visits += 1;
    note(context, range, performance.now() - visitAt);
    if (range.leased.length > 0) return range.leased;
    if (range.sweep) share = SWEEP_SHARE;
  }
  if (visits === 0) return undefined;
  load.worked(elapsedMs(), share);
  return [];
}

/** While vectors are taken over a visit writes, so it keeps to the pace of writes. */
async function visitRange(context: ClaimContext, token: string): Promise<RangeClaim> {
  const { db, store, worker, batchKeys, pace, visitGate } = context;
  const claim = { token, worker, limit: batchKeys };
  if (store.space.adoption !== 'open') return claimRange(db, store.space.id, store, claim);
  return visitGate(() => claimRange(db, store.space.id, store, { ...claim, adopt: pace.rows() }));
}

/** Not in turn with the visits and writes of an adoption, which would wait for all of its pages. */
async function visitBeside(context: ClaimContext, ended: AbortSignal): Promise<void> {
  const { db, store, load, pace, cut } = context;
  const began = performance.now();
  const range = await visitLong(db, store.space.id, store, {
    adopt: pace.rows(),
    stop: AbortSignal.any([cut, ended]),
  });
  const tookMs = performance.now() - began;
  if (range.visited) note(context, range, tookMs);
  load.worked(tookMs, range.sweep ? SWEEP_SHARE : 1);
}

function note({ load, pace, report }: ClaimContext, { blocked, adopted }: RangeClaim, tookMs: number): void {
  if (blocked) load.rest(Math.max(BLOCKED_REST_MS, 4 * tookMs));
  else report.visited += 1;
  if (!adopted) return;
  pace.observe(adopted.rows, adopted.lockedMs);
  report.claimed += adopted.rows;
  report.unpaid += adopted.rows;
}

/** Claims from one lane; where few keys come out of many rows (a hot key), the limit doubles. */
async function fromLane(
  { worker, cursor }: ClaimContext,
  claimOf: (claim: ChangeClaimOptions) => Promise<ChangeClaim>,
  lane: Lane,
  token: string,
  wanted: number,
  firstId?: number,
): Promise<LeasedKey[]> {
  const keys: LeasedKey[] = [];
  let next = firstId;
  for (let limit = wanted; limit > 0 && limit <= wanted * 16 && keys.length < wanted / 2; limit *= 2) {
    // Only where a claim follows: it takes the turn of a full look.
    const fromId: number = next ?? cursor.start(lane);
    next = undefined;
    const claim = await claimOf({ token, worker, limit, fromId });
    keys.push(...claim.leased);
    cursor.advance(lane, claim.lastId, claim.more);
    if (!claim.more) break;
  }
  return keys;
}
