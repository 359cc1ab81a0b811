import type { Lane } from '../claim/lease.js';

/** How often a claim looks from the first change on, and for leases whose worker went silent. */
const FULL_LOOK_MS = 1000;
/** One claim in so many begins with pages of a first load, else steady edits would keep it waiting for ever. */
const RANGE_SHARE = 10;

/** Where the claims of one space stand in this process; shared by its slots. */
export class ClaimCursor {
  private readonly fromId = new Map<Lane, number>();
  /** Since the last turn of a first load. */
  private claims = 0;
  private readonly looked = new Map<Lane | 'expired', number>();

  /** The id to start from: the hint, or 0 where a full look is due. */
  start(lane: Lane): number {
    return this.isDue(lane) ? 0 : (this.fromId.get(lane) ?? 0);
  }

  /** `full`: there may be more behind `lastId`; where that is below the hint, the next look is a full one too. */
  advance(lane: Lane, lastId: number, full: boolean): void {
    const hint = this.fromId.get(lane) ?? 0;
    if (full && lastId < hint) this.looked.delete(lane);
    this.fromId.set(lane, Math.max(hint, lastId));
  }

  /** True at most once a FULL_LOOK_MS for each thing to look at. */
  isDue(what: Lane | 'expired'): boolean {
    const now = performance.now();
    if (now - (this.looked.get(what) ?? -Infinity) < FULL_LOOK_MS) return false;
    this.looked.set(what, now);
    return true;
  }

  /** Counts a claim; true when it is the turn of a first load. A turn that comes while that rests is kept for it. */
  isRangesTurn(isFree: boolean): boolean {
    this.claims += 1;
    if (!isFree || this.claims < RANGE_SHARE) return false;
    this.claims = 0;
    return true;
  }

  /** Makes the next looks full ones: what is dry must have been looked at as a whole. */
  lookAgain(): void {
    this.looked.clear();
  }
}
