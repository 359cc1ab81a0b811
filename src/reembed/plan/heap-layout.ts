import type { Space } from '../../catalog/space.js';

/** How PostgreSQL lays rows out on pages of 8 kB (storage/bufpage.h, access/heaptoast.h). Sizes in bytes. */

export const PAGE = 8192;
export const TUPLE_HEADER = 24;
const PAGE_HEADER = 24;
const LINE_POINTER = 4;
/** TOAST_TUPLE_THRESHOLD: from here on values of a row are moved out of line. */
const TOAST_FROM = 2032;
/** TOAST_MAX_CHUNK_SIZE, and a chunk's id, number and header. */
const CHUNK = 1996;
const CHUNK_HEADER = TUPLE_HEADER + 12;
/** An entry of TOAST's own index, on pages that are nine tenths full. */
const CHUNK_INDEX_ENTRY = 20 / 0.9;
/** Values after which the packing of pages repeats closely enough. */
const PACKED_VALUES = 64;

/** pgvector's types: a header of 8, then 4 or 2 for each dimension. */
export function vectorBytes({ type, dimensions }: Pick<Space, 'type' | 'dimensions'>): number {
  return 8 + dimensions * (type === 'halfvec' ? 2 : 4);
}

export function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

export function inToast(tuple: number): boolean {
  return tuple > TOAST_FROM;
}

/** Pages that so many rows take, with this part (percent) of each page filled. */
export function heapPages(rows: number, tuple: number, fillfactor: number): number {
  const room = PAGE - PAGE_HEADER - (PAGE * (100 - fillfactor)) / 100;
  return Math.ceil(rows / Math.max(1, Math.floor(room / (align(tuple) + LINE_POINTER))));
}

/**
 * A value that is stored EXTERNAL, with TOAST's index: chunks are put on one page after the other, and what is left of
 * a page on which the next chunk does not fit stays empty.
 */
export function toastBytesPerValue(value: number): number {
  const data = value - 4;
  const whole = Math.floor(data / CHUNK);
  const rest = data - whole * CHUNK;
  const chunks = [...Array<number>(whole).fill(CHUNK), ...(rest > 0 ? [rest] : [])];
  let pages = 1;
  let room = PAGE - PAGE_HEADER;
  for (let n = 0; n < PACKED_VALUES; n++) {
    for (const chunk of chunks) {
      const wanted = align(CHUNK_HEADER + chunk) + LINE_POINTER;
      if (room < wanted) {
        pages++;
        room = PAGE - PAGE_HEADER;
      }
      room -= wanted;
    }
  }
  return (pages * PAGE) / PACKED_VALUES + chunks.length * CHUNK_INDEX_ENTRY;
}
