import { createHash } from 'node:crypto';
import type { Executor } from '../db/database.js';
import { fromBytes, likeness, toBytes } from './vector-bytes.js';

/**
 * Vectors that were paid for, by the hash of their text, so that duplicates, reverts and moved rows cost nothing. What
 * is kept is the vector of the text as a document, as the provider gave it and as `check.ts` found it good.
 *
 * Nothing depends on it: a caller takes a failure to read for "not there", and a failure to write for "not kept".
 * Writers and erasers take rows in the order of their key and the evictor skips what is locked, so that no two of them
 * can wait for one another.
 */

/** A text's vector. `hash` is freshvec.content_hash of the whole text. */
export interface CachedVector {
  readonly hash: string;
  readonly vector: Float32Array;
}

/** A piece of a text; `hash` is that of the whole text. */
export interface TextPiece {
  readonly hash: string;
  readonly piece: string;
}

export interface EvictOptions {
  /** About what the cache may take on disk, in bytes; 0 empties it. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/** Between a fingerprint and the digest of the piece of a long text that the vector is of. */
export const PIECE = '~';

/** Part of the bound that eviction goes down to, so that the next write does not call for it again. */
const KEEP = 0.9;
/** Rows per delete: some ten milliseconds, and locks that nobody else waits for long. */
const EVICT_ROWS = 1000;

/**
 * The vectors that are there, by hash. Each is an array of its own, of the fingerprint's dimensions, finite and not all
 * zero; a row that is not so is left out and deleted.
 */
export async function readCache(
  db: Executor,
  fingerprint: string,
  hashes: readonly string[],
): Promise<Map<string, Float32Array>> {
  const rows = await readRows(
    db,
    hashes,
    hashes.map(() => fingerprint),
    dimensionsOf(fingerprint),
  );
  return new Map(rows.map(({ hash, vector }) => [hash, vector]));
}

/**
 * The vectors of these pieces that are there. A piece is kept under the hash of its whole text, so that whoever erases the
 * text erases them too, and under a digest of its own, so that it is never taken for the whole or for another piece.
 */
export async function readPieces(
  db: Executor,
  fingerprint: string,
  pieces: readonly TextPiece[],
): Promise<Map<string, Float32Array>> {
  const keys = new Map(pieces.map(({ piece }) => [pieceKey(fingerprint, piece), piece]));
  const names = pieces.map(({ piece }) => pieceKey(fingerprint, piece));
  const rows = await readRows(
    db,
    pieces.map(({ hash }) => hash),
    names,
    dimensionsOf(fingerprint),
  );
  return new Map(rows.map(({ name, vector }) => [keys.get(name) ?? '', vector]));
}

/** Keeps vectors of pieces, as `writeCache` does those of whole texts. */
export async function writePieces(
  db: Executor,
  fingerprint: string,
  pieces: readonly (TextPiece & CachedVector)[],
): Promise<number> {
  const distinct = new Map(pieces.map((item) => [item.hash + pieceKey(fingerprint, item.piece), item]));
  const items = [...distinct.values()];
  const names = items.map(({ piece }) => pieceKey(fingerprint, piece));
  return writeRows(db, items, names, dimensionsOf(fingerprint));
}

function pieceKey(fingerprint: string, piece: string): string {
  return fingerprint + PIECE + createHash('sha256').update(piece).digest('hex').slice(0, 32);
}

type CachedRow = { readonly hash: string; readonly name: string; readonly vector: Float32Array };

async function readRows(
  db: Executor,
  hashes: readonly string[],
  names: readonly string[],
  dimensions: number,
): Promise<CachedRow[]> {
  if (hashes.length === 0) return [];
  const found: CachedRow[] = [];
  // Not plain bytea, whose text form hangs on a setting. Base64 is shorter, but takes longer to read.
  const rows = await db.query<{ hash: string; name: string; hex: string }>(
    `SELECT c.hash, c.fingerprint AS name, encode(c.vector, 'hex') AS hex
     FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[]) AS i(hash, fingerprint)) wanted
     JOIN freshvec.embedding_cache c USING (hash, fingerprint)`,
    [hashes, names],
  );
  for (const { hash, name, hex } of rows) {
    const vector = fromBytes(Buffer.from(hex, 'hex'));
    // Any vector is like itself, unless it holds NaN or Infinity or nothing but zeros.
    if (vector?.length === dimensions && likeness(vector, vector) > 0) found.push({ hash, name, vector });
    else await remove(db, [hash], name);
  }
  return found;
}

/**
 * Keeps vectors, all of the fingerprint's dimensions; what is there already stays. One statement, whose one binary
 * parameter holds all vectors. Resolves to how many were new. Throws what the database throws: callers go on.
 */
export async function writeCache(db: Executor, fingerprint: string, items: readonly CachedVector[]): Promise<number> {
  return writeRows(
    db,
    items,
    items.map(() => fingerprint),
    dimensionsOf(fingerprint),
  );
}

async function writeRows(
  db: Executor,
  items: readonly CachedVector[],
  names: readonly string[],
  dimensions: number,
): Promise<number> {
  if (items.length === 0) return 0;
  const bytes = 4 * dimensions;
  const odd = items.findIndex(({ vector }) => vector.byteLength !== bytes);
  if (odd >= 0) throw new RangeError(`a vector of ${items[odd]?.vector.length} dimensions for ${names[odd]}`);
  const rows = await db.query(
    `INSERT INTO freshvec.embedding_cache (hash, fingerprint, vector)
     SELECT hash, name, substr($3::bytea, (i::int - 1) * $4::int + 1, $4::int)
     FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS item(hash, name, i) ORDER BY hash, name COLLATE "C"
     ON CONFLICT DO NOTHING RETURNING 1`,
    [items.map(({ hash }) => hash), names, Buffer.concat(items.map(({ vector }) => toBytes(vector))), bytes],
  );
  return rows.length;
}

/**
 * Deletes the oldest rows until the cache is a tenth below its bound, if it is above it; resolves to how many. Oldest
 * means first written: reading does not count, since it would then have to write.
 *
 * The size of the files tells for next to nothing that there is nothing to do, as what is in them cannot be more. It
 * does not tell when to stop, for it stays when rows are deleted, until vacuum gives their room to new ones. So above
 * the bound the rows' own sizes are summed up, from the index that also says which are the oldest. No counter: every
 * writer would wait for its row.
 */
export async function evictCache(db: Executor, { maxBytes, signal }: EvictOptions): Promise<number> {
  if (maxBytes > 0 && (await fileBytes(db)) <= maxBytes) return 0;
  const used = await usedBytes(db);
  if (used <= maxBytes) return 0;
  let excess = used - maxBytes * KEEP;
  let evicted = 0;
  while (excess > 0) {
    signal?.throwIfAborted();
    const { rows, bytes } = await evictOldest(db, excess);
    if (rows === 0) break;
    evicted += rows;
    excess -= bytes;
  }
  return evicted;
}

/**
 * Erases the vectors of these texts under every model; resolves to how many there were. A worker that has such a text in
 * hand may still keep it: erase the rows of the app first, and call this once their leases are gone.
 */
export function forgetHashes(db: Executor, hashes: readonly string[]): Promise<number> {
  return remove(db, hashes, null);
}

/** Erases everything that was kept of one model, pieces included; resolves to how many vectors there were. */
export async function forgetModel(db: Executor, fingerprint: string): Promise<number> {
  const rows = await db.query(
    `WITH doomed AS (
       SELECT hash, fingerprint FROM freshvec.embedding_cache
       WHERE fingerprint = $1 OR starts_with(fingerprint, $2) ORDER BY hash, fingerprint FOR UPDATE)
     DELETE FROM freshvec.embedding_cache c USING doomed d
     WHERE c.hash = d.hash AND c.fingerprint = d.fingerprint RETURNING 1`,
    [fingerprint, fingerprint + PIECE],
  );
  return rows.length;
}

async function remove(db: Executor, hashes: readonly string[], fingerprint: string | null): Promise<number> {
  const rows = await db.query(
    `WITH doomed AS (
       SELECT hash, fingerprint FROM freshvec.embedding_cache
       WHERE hash = ANY($1::uuid[]) AND ($2::text IS NULL OR fingerprint = $2)
       ORDER BY hash, fingerprint FOR UPDATE)
     DELETE FROM freshvec.embedding_cache c USING doomed d
     WHERE c.hash = d.hash AND c.fingerprint = d.fingerprint RETURNING 1`,
    [hashes, fingerprint],
  );
  return rows.length;
}

async function evictOldest(db: Executor, excess: number): Promise<{ rows: number; bytes: number }> {
  const [gone] = await db.query<{ rows: number; bytes: number }>(
    `WITH oldest AS (
       SELECT hash, fingerprint, at, bytes FROM freshvec.embedding_cache
       ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED),
     doomed AS (
       SELECT hash, fingerprint, sum(bytes) OVER (ORDER BY at, hash, fingerprint) - bytes AS before FROM oldest),
     deleted AS (
       DELETE FROM freshvec.embedding_cache c USING doomed d
       WHERE c.hash = d.hash AND c.fingerprint = d.fingerprint AND d.before < $2::float8 RETURNING c.bytes)
     SELECT count(*) AS rows, COALESCE(sum(bytes), 0) AS bytes FROM deleted`,
    [EVICT_ROWS, excess],
  );
  return gone ?? { rows: 0, bytes: 0 };
}

async function fileBytes(db: Executor): Promise<number> {
  const [row] = await db.query<{ bytes: number }>(`SELECT pg_total_relation_size('freshvec.embedding_cache') AS bytes`);
  return row?.bytes ?? 0;
}

async function usedBytes(db: Executor): Promise<number> {
  const [row] = await db.query<{ bytes: number }>(
    'SELECT COALESCE(sum(bytes), 0) AS bytes FROM freshvec.embedding_cache',
  );
  return row?.bytes ?? 0;
}

/** `provider/name@dimensions#hash` → dimensions */
function dimensionsOf(fingerprint: string): number {
  const [, digits] = /@(\d+)#[^#@]*$/.exec(fingerprint) ?? [];
  if (digits === undefined) throw new TypeError(`${fingerprint} is no fingerprint of a model`);
  return Number(digits);
}
