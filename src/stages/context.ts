import type { Database } from '../db/database.js';
import type { Gate, Priority } from '../embed/gate.js';
import type { EmbeddingModel } from '../embed/port.js';
import type { StageObserver } from '../observe/metrics.js';
import type { IndexCost } from '../store/index-state.js';
import type { Store } from '../store/port.js';
import type { ClaimCursor } from './claim-cursor.js';
import type { LoadDuty } from './load-duty.js';
import type { LongVisit } from './long-visit.js';
import type { Pace } from './pace.js';
import type { Parked } from './parked.js';
import type { WaitingWrites } from './waiting-writes.js';

/** Everything that one drain of one space works with. Opened by `worker/drainer.ts`. */
export interface DrainContext {
  readonly db: Database;
  readonly store: Store;
  readonly model: EmbeddingModel;
  /** What the provider's limits and the money allow; it puts down what is charged. */
  readonly gate: Gate;
  /** Whether vectors made before are taken from the cache, and new ones put there. */
  readonly cached: boolean;
  /** Name of this worker, in the lease rows for people to read. */
  readonly worker: string;
  /** Keys claimed, read and embedded together. */
  readonly batchKeys: number;
  readonly cursor: ClaimCursor;
  /** How much of the time goes to pages of a first load. */
  readonly load: LoadDuty;
  /** The closing visit of a first load, which claims do not wait for; shared by this process's drains of the space. */
  readonly longVisit: LongVisit;
  /** The space whose vectors are taken over, where one has the same fingerprint: no provider is asked then. */
  readonly copyFrom?: Store | undefined;
  readonly pace: Pace;
  /** The same of rows that are to stay on their page, where that spares them the table's vector indexes. */
  readonly staying: Pace;
  /** What writes pay for at present. */
  readonly indexed: () => IndexCost;
  /**
   * The app has UPDATE triggers on the rows: every commit of a write waits for the disk, since they may tell the world of it,
   * and what they take is not in the store's word on how long rows were locked.
   */
  readonly appTriggers: () => boolean;
  /**
   * Runs one write. While writes pay for a vector index, one at a time goes to the rows of a source in this process, and
   * an edit waits behind no more than one that is none.
   */
  readonly writeGate: <T>(priority: Priority, write: () => Promise<T>) => Promise<T>;
  /** Runs one visit that takes vectors over; one at a time as well. */
  readonly visitGate: <T>(visit: () => Promise<T>) => Promise<T>;
  /** What drains of the source's other spaces are about to write to the same rows. */
  readonly waiting: WaitingWrites;
  /** Shared by this process's drains of the space. */
  readonly parked: Parked[];
  /** Stop claiming; finish what is in hand. */
  readonly stop: AbortSignal;
  /** Drop what is in hand and give its leases back. */
  readonly cut: AbortSignal;
  readonly report: DrainReport;
  /** Told of each write, where somebody measures. */
  readonly observer?: StageObserver | undefined;
  /** Called when a claim came back full: there is work for another slot. */
  moreThanOne(priority: Priority): void;
}

/** What a drain did, counted. */
export interface DrainReport {
  /** Visits of pages of a first load or a sweep. */
  visited: number;
  /** Keys claimed. */
  claimed: number;
  /** Vectors written. */
  written: number;
  /** Rows settled without a call to the model: fresh already, gone, or in need of no vector. */
  unpaid: number;
  /** Rows set aside with a failure. */
  failed: number;
  /** Rows put back for later. */
  delayed: number;
  /** Tokens that the model charged. */
  tokens: number;
}

export function emptyReport(): DrainReport {
  return { visited: 0, claimed: 0, written: 0, unpaid: 0, failed: 0, delayed: 0, tokens: 0 };
}
