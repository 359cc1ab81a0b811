import type { Priority } from '../embed/gate.js';
import type { MadeVector } from './made-vector.js';

/** Vectors whose rows the app holds locked: kept under their lease, and written when the app lets go. */
export interface Parked {
  readonly token: string;
  readonly priority: Priority;
  readonly losses: ReadonlyMap<string, number>;
  readonly items: readonly MadeVector[];
  /** Others of the batch were written without waiting for the disk. */
  readonly unflushed: boolean;
}
