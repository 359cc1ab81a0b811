import type { Priority } from '../embed/gate.js';
import type { MadeVector } from './made-vector.js';

/**
 * Vectors that are paid for and could not be written: the app holds their rows, or the connection was lost. Kept under their
 * lease, and written by a later drain.
 */
export interface Parked {
  readonly token: string;
  readonly priority: Priority;
  readonly losses: ReadonlyMap<string, number>;
  readonly items: readonly MadeVector[];
  /** The batch's end gives back what is still leased: others of it did not wait for the disk, or were not seen to. */
  readonly unflushed: boolean;
  /** Since when the connection was lost at each try, by performance.now(). */
  readonly failingSince?: number | undefined;
}
