import { randomUUID } from 'node:crypto';
import { claimChanges } from '../claim/claim-changes.js';
import { claimExpired, claimWaiting } from '../claim/claim-due.js';
import { claimRange } from '../claim/claim-range.js';
import { LANES, type Lane, type LeasedKey } from '../claim/lease.js';
import type { DrainContext } from './context.js';

/** Keys that one token holds. */
export interface Claim {
  readonly token: string;
  readonly keys: readonly LeasedKey[];
}

/** How often a claim looks from the first change on, and for leases whose worker went silent. */
const FULL_LOOK_MS = 1000;

/** Share of a claim that is kept for the bulk lane while both lanes have work. */
const BULK_SHARE = 0.1;

/** Where the claims of one space stand in this process; shared by its slots. */
export class ClaimCursor {
  private readonly fromId = new Map<Lane, number>();
  private readonly looked = new Map<Lane | 'expired', number>();

  /** The id to start from: the hint, or 0 where a full look is due. */
  start(lane: Lane): number {
    return this.isDue(lane) ? 0 : (this.fromId.get(lane) ?? 0);
  }

  advance(lane: Lane, lastId: number): void {
    this.fromId.set(lane, Math.max(this.fromId.get(lane) ?? 0, lastId));
  }

  /** True at most once a FULL_LOOK_MS for each thing to look at. */
  isDue(what: Lane | 'expired'): boolean {
    const now = performance.now();
    if (now - (this.looked.get(what) ?? -Infinity) < FULL_LOOK_MS) return false;
    this.looked.set(what, now);
    return true;
  }

  /** Makes the next looks full ones: what is dry must have been looked at as a whole. */
  lookAgain(): void {
    this.looked.clear();
  }
}

/**
 * Claims the next batch: edits first, a tenth kept for bulk changes, then keys that waited, silent workers' leases, and
 * last the pages of a first load. Undefined when there is nothing to claim just now.
 */
export async function claimNext(context: DrainContext): Promise<Claim | undefined> {
  const token = randomUUID();
  const { db, store, worker, batchKeys, cursor } = context;
  const spaceId = store.space.id;
  const keys: LeasedKey[] = [];
  const room = () => batchKeys - keys.length;

  keys.push(...(await fromLane(context, LANES.interactive, token, Math.ceil(batchKeys * (1 - BULK_SHARE)))));
  keys.push(...(await fromLane(context, LANES.bulk, token, room())));
  if (room() > 0) keys.push(...(await claimWaiting(db, spaceId, { token, worker, limit: room() })));
  if (keys.length === 0 && cursor.isDue('expired')) {
    keys.push(...(await claimExpired(db, spaceId, { token, worker })));
    // More of them may be there: they come in small batches.
    if (keys.length > 0) cursor.lookAgain();
  }
  while (keys.length === 0 && !context.stop.aborted) {
    const range = await claimRange(db, spaceId, store, { token, worker, limit: batchKeys });
    keys.push(...range.leased);
    if (!range.visited) break;
  }
  context.report.claimed += keys.length;
  return keys.length > 0 ? { token, keys } : undefined;
}

/** Claims from one lane; where few keys come out of many rows (a hot key), the limit doubles. */
async function fromLane(context: DrainContext, lane: Lane, token: string, wanted: number): Promise<LeasedKey[]> {
  const { db, store, worker, cursor } = context;
  const keys: LeasedKey[] = [];
  for (let limit = wanted; limit > 0 && limit <= wanted * 16 && keys.length < wanted / 2; limit *= 2) {
    const fromId = cursor.start(lane);
    const claim = await claimChanges(db, store.space.id, lane, { token, worker, limit, fromId });
    keys.push(...claim.leased);
    cursor.advance(lane, claim.lastId);
    if (claim.consumed < limit) break;
  }
  return keys;
}
