export type { Filter, FilterOperators, Scalar } from './filter.js';
export { type GuardedStatement, guardedStatement } from './guarded.js';
export type { SearchHit } from './hit.js';
export { createPointerCache, type PointerCache } from './pointer-cache.js';
export type { EmbedQuery } from './query-vectors.js';
export type { SearchRequest } from './request.js';
export { type SearchDeps, type SearchResult, search } from './search.js';
export { shareTableSql } from './share.js';
export { readTarget, type SearchTarget } from './target.js';
