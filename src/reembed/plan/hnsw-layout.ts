import type { Space } from '../../catalog/space.js';
import { align, PAGE, vectorBytes } from './heap-layout.js';

/** How pgvector lays an HNSW graph out on pages and in memory (its src/hnsw.h). Sizes in bytes. */

/** Of a page, after its header (24) and pgvector's own note at its end (8). */
const ROOM = PAGE - 32;
const LINE_POINTER = 4;
const ELEMENT_HEADER = 72;
const NEIGHBOURS_HEADER = 4;
const TUPLE_ID = 6;
/** In memory: an element without its vector and its neighbours; measured, by when builds of pgvector 0.8.0 spilled. */
const ELEMENT_IN_MEMORY = 210;
const NEIGHBOUR_IN_MEMORY = 16;

type Indexed = Pick<Space, 'type' | 'dimensions' | 'index'>;

/** Links of an element: 2 × m on the lowest layer, m on each above, of which it has 1 / (m - 1) on average. */
function links({ index: { m } }: Indexed): number {
  return 2 * m + m / (m - 1);
}

/** An element and its neighbours share a page where they fit, and several elements where more do. */
export function hnswBytes(space: Indexed, rows: number): number {
  const element = align(ELEMENT_HEADER + vectorBytes(space)) + LINE_POINTER;
  const neighbours = align(NEIGHBOURS_HEADER + links(space) * TUPLE_ID) + LINE_POINTER;
  const fitting = Math.floor(ROOM / (element + neighbours));
  // Neither fits beside the other: a page for each.
  const pages = fitting >= 1 ? Math.ceil(rows / fitting) : 2 * rows;
  return (pages + 1) * PAGE;
}

export function graphBytesPerRow(space: Indexed): number {
  return vectorBytes(space) + ELEMENT_IN_MEMORY + links(space) * NEIGHBOUR_IN_MEMORY;
}
