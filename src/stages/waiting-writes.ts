import { stillDefinedSql } from '../catalog/source.js';
import type { OtherSpace, Store } from '../store/port.js';
import type { MadeVector } from './made-vector.js';

/** Vectors of one batch that are still to be written. */
export interface WaitingBatch {
  readonly store: Store;
  readonly token: string;
  /** By key. Whoever writes one takes it out. */
  readonly items: Map<string, MadeVector>;
  /** Told how many were written by the write of another space. */
  readonly onWritten: (count: number) => void;
}

/** Items of a write that can be written together with their counterparts of another space's batch. */
export interface Companions {
  readonly items: readonly MadeVector[];
  readonly batch: WaitingBatch;
  /** In the order of `items`. */
  readonly theirs: readonly MadeVector[];
  readonly other: OtherSpace;
}

/**
 * What this process is about to write to the rows of one source, for all of its spaces. Two spaces that maintain vectors on
 * the same rows embed the same edits side by side; where both vectors of a text are there, one new version of the row
 * carries both, and every vector index of the table gets one entry for it, not two.
 */
export class WaitingWrites {
  private readonly batches = new Set<WaitingBatch>();

  /** Offers a batch to the writes of other spaces, until it is withdrawn. */
  offer(batch: WaitingBatch): () => void {
    this.batches.add(batch);
    return () => this.batches.delete(batch);
  }

  /** Those of these items of `store` that another space's batch has the same text of; of the batch that has most. */
  beside(store: Store, items: readonly MadeVector[]): Companions | undefined {
    if (!store.writeBoth) return undefined;
    const defined = stillDefinedSql(store.source);
    let best: Companions | undefined;
    for (const batch of this.batches) {
      const { space, source, writeBoth } = batch.store;
      if (space.id === store.space.id || !writeBoth || stillDefinedSql(source) !== defined) continue;
      const pairs = items.flatMap((item) => {
        const their = batch.items.get(item.key);
        return their?.hash === item.hash ? [{ item, their }] : [];
      });
      if (pairs.length <= (best?.items.length ?? 0)) continue;
      const theirs = pairs.map(({ their }) => their);
      const other = { space, token: batch.token, vectors: theirs.map(({ vector }) => vector) };
      best = { items: pairs.map(({ item }) => item), batch, theirs, other };
    }
    return best;
  }
}
