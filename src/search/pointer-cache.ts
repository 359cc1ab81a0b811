import type { SearchTarget } from './target.js';

/** The last known target of each source. An entry lives until a search sees that it is out of date. */
export interface PointerCache {
  get(sourceName: string): SearchTarget | undefined;
  set(sourceName: string, target: SearchTarget): void;
  delete(sourceName: string): void;
}

/** One cache for one database. */
export function createPointerCache(): PointerCache {
  return new Map<string, SearchTarget>();
}
