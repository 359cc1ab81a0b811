import type { PlanContext, Sizes } from './context.js';
import { align, heapPages, inToast, PAGE, TUPLE_HEADER, toastBytesPerValue, vectorBytes } from './heap-layout.js';
import { graphBytesPerRow, hnswBytes } from './hnsw-layout.js';
import type { TableFacts } from './table-facts.js';

/** A line pointer and a header for each entry, pages nine tenths full. */
const INDEX_ENTRY = 13;
const INDEX_FILL = 0.9;
const HASH = 16;
const FLAG = 1;
/** Of a value that is out of line. */
const TOAST_POINTER = 18;
/** Of a key that was never analysed. */
const KEY = 16;

/** What a space of so many vectors takes. */
export function sizeSpace({
  source,
  from,
  to,
  rows,
  adopts,
  indexServes,
  table,
}: Pick<PlanContext, 'source' | 'from' | 'to' | 'rows' | 'adopts' | 'indexServes' | 'table'>): Sizes {
  const vector = vectorBytes(to);
  const model = Buffer.byteLength(to.fingerprint) + 1;
  const beside = model + HASH;
  const largest = Math.ceil(rows * table.largestShare);
  const built = to.index.kind !== 'none' && !indexServes;
  const kept = {
    vector,
    index: built ? hnswBytes(to, rows) : 0,
    graph: built ? graphBytesPerRow(to) * (to.store === 'column' ? largest : rows) : 0,
  };
  if (to.store === 'table') {
    const key = table.keyBytes ?? KEY * source.key.length;
    const plain = TUPLE_HEADER + align(key + 4) + beside;
    const toasted = inToast(plain + vector);
    const rowAfter = plain + (toasted ? TOAST_POINTER : vector);
    const primaryKey = (rows * (align(key + 4) + INDEX_ENTRY)) / INDEX_FILL;
    const disk = heapPages(rows, rowAfter, 100) * PAGE + (toasted ? rows * toastBytesPerValue(vector) : 0) + primaryKey;
    return { ...kept, toasted, rowBefore: 0, rowAfter, embeddedShare: 1, disk, dead: 0 };
  }
  const rowBefore = rowBytes(table, rows);
  const added = beside + (from.store === 'column' ? 0 : FLAG);
  const toasted = inToast(rowBefore + added + vector);
  // An adopted vector is in its place already.
  const embeddedShare = rows === 0 ? 1 : (rows - adopts) / rows;
  const rowAfter = rowBefore + added + embeddedShare * (toasted ? TOAST_POINTER : vector);
  const before = heapPages(rows, rowBefore, table.fillfactor);
  const after = heapPages(rows, rowAfter, table.fillfactor);
  const disk = Math.max(0, after - before) * PAGE + (toasted ? (rows - adopts) * toastBytesPerValue(vector) : 0);
  return { ...kept, toasted, rowBefore, rowAfter, embeddedShare, disk, dead: before * PAGE };
}

/** From what ANALYZE found; else from the table's size, dead rows and all. */
function rowBytes({ analysedRowBytes, columns, heapBytes, rows: known }: TableFacts, rows: number): number {
  if (analysedRowBytes !== undefined) return align(TUPLE_HEADER - 1 + Math.ceil(columns / 8)) + analysedRowBytes;
  return Math.min(PAGE / 4, heapBytes / Math.max(known, rows, 1));
}
