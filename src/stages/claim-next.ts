import { randomUUID } from 'node:crypto';
import { claimBulk } from '../claim/claim-bulk.js';
import { type ChangeClaim, type ChangeClaimOptions, claimChanges } from '../claim/claim-changes.js';
import { claimExpired, claimWaiting } from '../claim/claim-due.js';
import { claimRange } from '../claim/claim-range.js';
import { LANES, type Lane, type LeasedKey } from '../claim/lease.js';
import type { Priority } from '../embed/gate.js';
import type { DrainContext } from './context.js';

/** Keys that one token holds. */
export interface Claim {
  readonly token: string;
  readonly keys: readonly LeasedKey[];
  readonly priority: Priority;
}

type ClaimContext = Pick<DrainContext, 'db' | 'store' | 'worker' | 'batchKeys' | 'cursor' | 'load' | 'stop'>;

/** Share of a claim that is kept for the bulk lane while both lanes have work. */
const BULK_SHARE = 0.1;

/**
 * Claims the next batch: once a second the leases of silent workers, which steady edits would else keep waiting for
 * ever; then edits, a tenth kept for bulk changes, keys that waited, and last the pages of a first load, which every
 * tenth claim begins with. Undefined when there is nothing to claim just now.
 */
export async function claimNext(context: ClaimContext): Promise<Claim | undefined> {
  const token = randomUUID();
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
  if (cursor.isRangesTurn(context.load.isFree())) keys.push(...(await fromRanges(context, token)));
  if (keys.length > 0) return { token, keys, priority: 'load' };
  const bulkFromId = cursor.start(LANES.bulk);
  let bulk = false;
  const claimEdits = async (claim: ChangeClaimOptions) => {
    const answer = await claimChanges(db, spaceId, { ...claim, bulkFromId });
    bulk = answer.bulk;
    return answer;
  };
  const editShare = Math.ceil(batchKeys * (1 - BULK_SHARE));
  keys.push(...(await fromLane(context, claimEdits, LANES.interactive, token, editShare)));
  const edits = keys.length > 0;
  const claimPacks = (claim: ChangeClaimOptions) => claimBulk(db, spaceId, claim);
  if (bulk) keys.push(...(await fromLane(context, claimPacks, LANES.bulk, token, room(), bulkFromId)));
  if (room() > 0) keys.push(...(await claimWaiting(db, spaceId, { token, worker, limit: room() })));
  if (keys.length > 0) return { token, keys, priority: edits ? 'interactive' : 'bulk' };
  keys.push(...(await fromRanges(context, token)));
  return keys.length > 0 ? { token, keys, priority: 'load' } : undefined;
}

/** Claims from the pages of a first load or a sweep, on to the first that has a key to lease. */
async function fromRanges(
  { db, store, worker, batchKeys, load, stop }: ClaimContext,
  token: string,
): Promise<readonly LeasedKey[]> {
  while (!stop.aborted && load.isFree()) {
    const range = await claimRange(db, store.space.id, store, { token, worker, limit: batchKeys });
    if (range.leased.length > 0 || !range.visited) return range.leased;
  }
  return [];
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
