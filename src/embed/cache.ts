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

export interface EvictOptions {
  /** About what the cache may take on disk, in bytes; 0 empties it. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

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
  const found = new Map<string, Float32Array>();
  if (hashes.length === 0) return found;
  // Not plain bytea, whose text form hangs on a setting. Base64 is shorter, but takes longer to read.
  const rows = await db.query<{ hash: string; hex: string }>(
    `SELECT hash, encode(vector, 'hex') AS hex FROM freshvec.embedding_cache
     WHERE hash = ANY($1::uuid[]) AND fingerprint = $2`,
    [hashes, fingerprint],
  );
  const dimensions = dimensionsOf(fingerprint);
  const damaged: string[] = [];
  for (const { hash, hex } of rows) {
    const vector = fromBytes(Buffer.from(hex, 'hex'));
    // Any vector is like itself, unless it holds NaN or Infinity or nothing but zeros.
    if (vector?.length === dimensions && likeness(vector, vector) > 0) found.set(hash, vector);
    else damaged.push(hash);
  }
  if (damaged.length > 0) await remove(db, damaged, fingerprint);
  return found;
}

/**
 * Keeps vectors, all of the fingerprint's dimensions; what is there already stays. One statement, whose one binary
 * parameter holds all vectors. Resolves to how many were new. Throws what the database throws: callers go on.
 */
export async function writeCache(db: Executor, fingerprint: string, items: readonly CachedVector[]): Promise<number> {
  if (items.length === 0) return 0;
  const bytes = 4 * dimensionsOf(fingerprint);
  const odd = items.find(({ vector }) => vector.byteLength !== bytes);
  if (odd) throw new RangeError(`a vector of ${odd.vector.length} dimensions for ${fingerprint}`);
  const rows = await db.query(
    `INSERT INTO freshvec.embedding_cache (hash, fingerprint, vector)
     SELECT hash, $2, substr($3::bytea, (i::int - 1) * $4::int + 1, $4::int)
     FROM unnest($1::uuid[]) WITH ORDINALITY AS item(hash, i) ORDER BY hash
     ON CONFLICT DO NOTHING RETURNING 1`,
    [items.map(({ hash }) => hash), fingerprint, Buffer.concat(items.map(({ vector }) => toBytes(vector))), bytes],
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

/** Erases everything that was kept of one model; resolves to how many vectors there were. */
export async function forgetModel(db: Executor, fingerprint: string): Promise<number> {
  const rows = await db.query(
    `WITH doomed AS (
       SELECT hash FROM freshvec.embedding_cache WHERE fingerprint = $1 ORDER BY hash FOR UPDATE)
     DELETE FROM freshvec.embedding_cache c USING doomed d WHERE c.hash = d.hash AND c.fingerprint = $1 RETURNING 1`,
    [fingerprint],
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
