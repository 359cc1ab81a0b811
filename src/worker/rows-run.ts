import pLimit from 'p-limit';
import type { Priority } from '../embed/gate.js';
import { WaitingWrites } from '../stages/waiting-writes.js';

/** Where the drains of this process meet that write to the same rows. */
export interface RowsRun {
  readonly waiting: WaitingWrites;
  /** Runs one write at a time; no more than one that is no edit's waits before an edit's. */
  turn<T>(priority: Priority, write: () => Promise<T>): Promise<T>;
}

export function newRowsRun(): RowsRun {
  const [one, others] = [pLimit(1), pLimit(1)];
  return {
    waiting: new WaitingWrites(),
    turn: (priority, write) => (priority === 'interactive' ? one(write) : others(() => one(write))),
  };
}
