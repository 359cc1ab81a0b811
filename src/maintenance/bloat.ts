import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { readBuild } from '../store/build-record.js';
import type { OwnIndex, VectorRelation } from '../store/own-index.js';

/** How large a vector index is, and how large it need be. */
export interface IndexSize {
  readonly bytes: number;
  /** In its table now. */
  readonly vectors: number;
  readonly neededBytes: number;
  /** bytes / neededBytes. */
  readonly ratio: number;
}

/** An index over fewer vectors than this is mostly its first pages. */
const TELLING_VECTORS = 1_000;

/** Bytes of a page that pgvector fills: 8192 less header (24), its own trailer (8). */
const PAGE = { bytes: 8192, free: 8160 } as const;

/**
 * Bytes of an HNSW index that was just built, by pgvector's layout (src/hnsw.h): one element tuple (72 bytes and the
 * vector) and one neighbour tuple (4 bytes and 6 for each of (level + 2) × m places) for each vector, a line pointer of
 * 4 bytes each, on one page where both fit and else on two. Levels above 0 are few (1 / m) and left out.
 */
export function hnswBytes(
  { type, dimensions, index }: Pick<Space, 'type' | 'dimensions' | 'index'>,
  vectors: number,
): number {
  const element = aligned(72 + 8 + (type === 'vector' ? 4 : 2) * dimensions) + 4;
  const neighbours = aligned(4 + 6 * 2 * index.m) + 4;
  const both = element + neighbours;
  const pagesEach = both <= PAGE.free ? 1 / Math.floor(PAGE.free / both) : 2;
  return PAGE.bytes * (1 + Math.ceil(vectors * pagesEach));
}

/**
 * Measures an index against the bytes per vector that it had when freshvec built it; where that is not known, against
 * what pgvector's layout takes. Needs no extension and no superuser. `exact` counts the vectors, which reads the table
 * without them; else the planner's statistics say how many there are.
 */
export async function indexSize(
  db: Executor,
  space: Space,
  index: OwnIndex,
  column: string,
  { exact }: { exact: boolean },
): Promise<IndexSize> {
  const { relation } = index;
  const estimated = exact ? undefined : await plannedVectors(db, relation, column);
  const vectors = estimated ?? (await countVectors(db, relation, column));
  const record = await readBuild(db, space.id, relation.oid);
  const known = record !== undefined && record.vectors >= TELLING_VECTORS;
  const neededBytes = known
    ? Math.max(PAGE.bytes, (record.bytes / record.vectors) * vectors)
    : hnswBytes(space, vectors);
  const [size] = await db.query<{ bytes: number }>('SELECT pg_relation_size(to_regclass($1)) AS bytes', [
    qualified(relation.schema, index.name),
  ]);
  const bytes = size?.bytes ?? 0;
  return { bytes, vectors, neededBytes, ratio: bytes / neededBytes };
}

async function plannedVectors(db: Executor, relation: VectorRelation, column: string): Promise<number | undefined> {
  const [row] = await db.query<{ rows: number; nulls: number | null }>(
    `SELECT c.reltuples::float8 AS rows, s.null_frac::float8 AS nulls
     FROM pg_class c LEFT JOIN pg_stats s
       ON s.schemaname = $2 AND s.tablename = $3 AND s.attname = $4 AND NOT s.inherited
     WHERE c.oid = $1::int8::oid`,
    [relation.oid, relation.schema, relation.name, column],
  );
  return row && row.rows >= 0 ? Math.round(row.rows * (1 - (row.nulls ?? 0))) : undefined;
}

async function countVectors(db: Executor, relation: VectorRelation, column: string): Promise<number> {
  const [row] = await db.query<{ vectors: number }>(
    `SELECT count(${ident(column)}) AS vectors FROM ${qualified(relation.schema, relation.name)}`,
  );
  return row?.vectors ?? 0;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
