import type { VectorType } from '../../catalog/space.js';

/** Bytes of the vectors of a number of rows, and of an HNSW index over them. Both as PostgreSQL lays them out. */
export interface StorageEstimate {
  readonly vectorBytes: number;
  readonly indexBytes: number;
}

const PAGE = 8192;
/** Of a page: its header, and in an index pgvector's own 8 bytes at its end. */
const PAGE_HEADER = 24;
const HNSW_OPAQUE = 8;
const LINE_POINTER = 4;
/** Beyond about a quarter of a page a value goes to the TOAST table, in chunks of TOAST_MAX_CHUNK_SIZE. */
const TOAST_THRESHOLD = 2032;
const TOAST_CHUNK = 1996;
const TOAST_POINTER = 18;
/** A chunk's tuple header, its two ids, and its entry in the TOAST index. */
const TOAST_CHUNK_OVERHEAD = 24 + 8 + 4 + 24;
/** Model (a short text) and hash beside the vector. */
const COMPANIONS = 40 + 16;

/** pgvector allows an index up to so many dimensions. */
const MOST_INDEXED: Readonly<Record<VectorType, number>> = { vector: 2000, halfvec: 4000 };

/**
 * What vectors of a model take.
 * `indexBytes` is undefined where the type cannot be indexed at that many dimensions.
 */
export function estimateStorage(
  type: VectorType,
  dimensions: number,
  rows: number,
  m = 16,
): Omit<StorageEstimate, 'indexBytes'> & { readonly indexBytes: number | undefined } {
  const value = vectorSize(type, dimensions);
  const chunks = Math.ceil(value / TOAST_CHUNK);
  const toasted = value + chunks * TOAST_CHUNK_OVERHEAD + TOAST_POINTER;
  const vectorBytes = rows * (COMPANIONS + (value > TOAST_THRESHOLD ? toasted : value));
  return { vectorBytes, indexBytes: dimensions > MOST_INDEXED[type] ? undefined : indexSize(value, rows, m) };
}

/**
 * Each row has an element (header, ten heap pointers, the vector) and its neighbours: 2m in the lowest layer and m in
 * each above, which one row of m reaches (pgvector src/hnsw.h and hnswutils.c, HNSW_ELEMENT_TUPLE_SIZE and
 * HNSW_NEIGHBOR_TUPLE_SIZE). Both stand on one page where they fit.
 */
function indexSize(value: number, rows: number, m: number): number {
  const element = align(72 + value) + LINE_POINTER;
  const upper = 1 / (m - 1);
  const neighbours = align(4 + 6 * m * 2) + 6 * m * upper + LINE_POINTER;
  const room = PAGE - PAGE_HEADER - HNSW_OPAQUE;
  const each = element + neighbours;
  if (each <= room) return Math.ceil(rows / Math.floor(room / each)) * PAGE;
  return (
    Math.ceil(rows / Math.max(1, Math.floor(room / element))) * PAGE + Math.ceil((rows * neighbours) / room) * PAGE
  );
}

function vectorSize(type: VectorType, dimensions: number): number {
  return 8 + dimensions * (type === 'halfvec' ? 2 : 4);
}

function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
