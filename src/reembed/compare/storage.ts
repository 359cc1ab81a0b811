import type { VectorType } from '../../catalog/space.js';
import { inToast, TUPLE_HEADER, toastBytesPerValue, vectorBytes } from '../plan/heap-layout.js';
import { hnswBytes } from '../plan/hnsw-layout.js';

/** Bytes of the vectors of a number of rows, and of an HNSW index over them, by the page layouts that a plan goes by. */
export interface StorageEstimate {
  readonly vectorBytes: number;
  /** Undefined where the type cannot be indexed at that many dimensions. */
  readonly indexBytes: number | undefined;
}

const TOAST_POINTER = 18;
/** Model (a short text) and hash beside the vector. */
const COMPANIONS = 40 + 16;
const EF_CONSTRUCTION = 64;

/** pgvector allows an index up to so many dimensions. */
const MOST_INDEXED: Readonly<Record<VectorType, number>> = { vector: 2000, halfvec: 4000 };

/** What vectors of a model take, on rows that are small without them. */
export function estimateStorage(type: VectorType, dimensions: number, rows: number, m = 16): StorageEstimate {
  const value = vectorBytes({ type, dimensions });
  const stored = inToast(TUPLE_HEADER + COMPANIONS + value) ? TOAST_POINTER + toastBytesPerValue(value) : value;
  const index = { kind: 'hnsw', m, efConstruction: EF_CONSTRUCTION } as const;
  return {
    vectorBytes: rows * (COMPANIONS + stored),
    indexBytes: dimensions > MOST_INDEXED[type] ? undefined : hnswBytes({ type, dimensions, index }, rows),
  };
}
