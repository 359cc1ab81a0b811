import pLimit, { type LimitFunction } from 'p-limit';
import type { EmbeddingModel } from '../embed/port.js';
import { ClaimCursor } from '../stages/claim-cursor.js';
import { LoadDuty } from '../stages/load-duty.js';
import { LongVisit } from '../stages/long-visit.js';
import { createPace, createStayingPace, type Pace } from '../stages/pace.js';
import type { Parked } from '../stages/parked.js';
import type { IndexCost } from '../store/index-state.js';
import type { Store } from '../store/port.js';
import { isRefused, restAfter } from './drain-errors.js';

/** What this process remembers of a space from drain to drain. */
export interface SpaceRun {
  readonly cursor: ClaimCursor;
  readonly pace: Pace;
  readonly staying: Pace;
  readonly load: LoadDuty;
  readonly longVisit: LongVisit;
  readonly parked: Parked[];
  readonly visits: LimitFunction;
  opened:
    | {
        readonly at: number;
        readonly store: Store;
        readonly model: EmbeddingModel;
        readonly copyFrom: Store | undefined;
      }
    | undefined;
  indexed: IndexCost;
  /** As the context has it. */
  appTriggers: boolean;
  indexLookedAt: number;
  /** When it was found to be not paused, by whichever slot. */
  workedOnAt: number;
  /** Of the drains that are running: a pause ends them. */
  readonly running: Set<AbortController>;
  restUntil: number;
  /** Rests after statements that the database refused, since a write last went through. */
  refusals: number;
}

/** Of a space that nothing is known of yet. `rows`: in its first write. */
export function newSpaceRun(rows: number): SpaceRun {
  const pace = createPace(rows);
  return {
    cursor: new ClaimCursor(),
    pace,
    staying: createStayingPace(pace, rows),
    load: new LoadDuty(),
    longVisit: new LongVisit(),
    parked: [],
    visits: pLimit(1),
    opened: undefined,
    indexed: 'each',
    appTriggers: true,
    indexLookedAt: Number.NEGATIVE_INFINITY,
    workedOnAt: Number.NEGATIVE_INFINITY,
    running: new Set(),
    restUntil: 0,
    refusals: 0,
  };
}

/** Has it rest. A rest that it has already is not cut short. */
export function rest(run: SpaceRun, ms: number): void {
  run.restUntil = Math.max(run.restUntil, performance.now() + ms);
}

/** Has it rest after what a drain failed with. Slots that fail side by side, of which the first began a rest, count once. */
export function restAfterFailure(run: SpaceRun, error: unknown): void {
  const resting = run.restUntil > performance.now();
  if (resting && isRefused(error)) return;
  rest(run, restAfter(error, run.refusals));
  if (isRefused(error)) run.refusals += 1;
}
