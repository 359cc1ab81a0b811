import { stillDefinedSql } from '../catalog/source.js';
import type { OtherSpace, Store } from '../store/port.js';
import type { MadeVector } from './made-vector.js';
import type { Parked } from './parked.js';

/** A batch that is being written. */
export interface WritingBatch extends Pick<Parked, 'token' | 'priority' | 'losses'> {
  readonly store: Store;
  /** What is still to be written, by key. Whoever writes one takes it out. */
  readonly left: Map<string, MadeVector>;
  /** Something of it was committed without waiting for the disk. */
  unflushed: boolean;
  /** Told how many were written by the write of another space. */
  readonly onWritten: (count: number) => void;
}

/** Items of a write that can be written together with their counterparts of another space's batch. */
export interface Companions {
  readonly items: readonly MadeVector[];
  readonly batch: WritingBatch;
  readonly other: OtherSpace;
}

/**
 * What this process is about to write to the rows of one source, for all of its spaces. Two spaces that maintain vectors on
 * the same rows embed the same edits side by side; where both vectors of a text are there, one new version of the row
 * carries both, and every vector index of the table gets one entry for it, not two.
 */
export class WaitingWrites {
  private readonly batches = new Set<WritingBatch>();

  /** Lets the writes of other spaces take items of it along, until it is withdrawn. */
  offer(batch: WritingBatch): void {
    this.batches.add(batch);
  }

  withdraw(batch: WritingBatch): void {
    this.batches.delete(batch);
  }

  /**
   * Those of these items of `store` that another space's batch has the same text of; of the batch that has most. Texts
   * that were too long are left out: to record how they were made waits for an `alter`.
   */
  beside(store: Store, items: readonly MadeVector[]): Companions | undefined {
    if (!store.writeBoth) return undefined;
    const defined = stillDefinedSql(store.source);
    let best: Companions | undefined;
    for (const batch of this.batches) {
      const { space, source, writeBoth } = batch.store;
      if (space.id === store.space.id || !writeBoth || stillDefinedSql(source) !== defined) continue;
      const pairs = items.flatMap((item) => {
        const their = batch.left.get(item.key);
        return their && their.hash === item.hash && !their.long ? [{ item, vector: their.vector }] : [];
      });
      if (pairs.length <= (best?.items.length ?? 0)) continue;
      const other = { space, token: batch.token, vectors: pairs.map(({ vector }) => vector) };
      best = { items: pairs.map(({ item }) => item), batch, other };
    }
    return best;
  }
}
