import type { Executor } from '../db/database.js';

/**
 * How a lease ends. `done` drops it, and any failure of the key with it; `skip` drops it and leaves a failure as it is;
 * `wait` keeps the key for later; `fail` sets it aside with a reason.
 */
export type Ending =
  | { readonly key: string; readonly end: 'done' | 'skip' }
  | {
      readonly key: string;
      readonly end: 'wait';
      readonly seconds: number;
      /** Why it waits, to be counted: a lost write, a failed attempt of this text, or neither. */
      readonly because: 'changed' | 'attempt' | 'delay';
    }
  | {
      readonly key: string;
      readonly end: 'fail';
      readonly code: string;
      /** Never holds content. */
      readonly message: string;
      readonly attempts: number;
      /** Hash of the text that failed; null when it was never read. */
      readonly hash: string | null;
    };

/**
 * Ends leases, in the caller's transaction. A key that changed while it was held goes back into `change` in that same
 * transaction. Keys whose lease is not ours any more are left alone.
 *
 * Leases are locked in key order and waited for, so a transaction that holds other locks may settle only leases that it
 * has locked already (a store's write has, for the keys it calls written or changed); else claimers could deadlock.
 *
 * Resolves to how long ago, in s, the edits of the interactive lane were made that are done and not waiting again.
 */
export async function settle(
  tx: Executor,
  spaceId: number,
  token: string,
  endings: readonly Ending[],
): Promise<number[]> {
  const done = endings.filter((e) => e.end === 'done').map((e) => e.key);
  const waits = endings.filter((e) => e.end === 'wait');
  const fails = endings.filter((e) => e.end === 'fail');
  const unhealed = endings.filter((e) => e.end === 'skip' || e.end === 'fail').map((e) => e.key);
  // Several statements lock one after the other: all keys first, in key order, or a claimer that marks them `again` in
  // that order could hold one that the second statement wants, and wait for one that the first has.
  if ([done, waits, unhealed].filter(({ length }) => length > 0).length > 1) {
    const keys = endings.map(({ key }) => key);
    await tx.query(
      `SELECT FROM freshvec.lease WHERE space_id = $1 AND token = $2::uuid AND key = ANY($3::text[])
       ORDER BY key FOR UPDATE`,
      [spaceId, token, keys],
    );
  }
  const lagSeconds = done.length > 0 ? await finish(tx, spaceId, token, done, true) : [];
  if (waits.length > 0) await wait(tx, spaceId, token, waits);
  if (fails.length > 0) await recordFailures(tx, spaceId, token, fails);
  if (unhealed.length > 0) await finish(tx, spaceId, token, unhealed, false);
  return lagSeconds;
}

async function finish(
  tx: Executor,
  spaceId: number,
  token: string,
  keys: string[],
  healed: boolean,
): Promise<number[]> {
  const rows = await tx.query<{ seconds: number }>(
    `WITH ended AS (
       DELETE FROM freshvec.lease l USING (
         SELECT key FROM freshvec.lease WHERE space_id = $1 AND token = $2::uuid AND key = ANY($3::text[])
         ORDER BY key FOR UPDATE) held
       WHERE l.space_id = $1 AND l.key = held.key
       RETURNING l.key, l.again, l.again_force, l.lane, l.tenant, l.since
     ), healed AS (
       DELETE FROM freshvec.failure f USING ended e WHERE $4 AND f.space_id = $1 AND f.key = e.key
     ), back AS (
       INSERT INTO freshvec.change (space_id, lane, key, tenant, force)
       SELECT $1, lane, key, tenant, NULLIF(again_force, false) FROM ended WHERE again
     )
     SELECT extract(epoch FROM clock_timestamp() - since)::float8 AS seconds FROM ended WHERE NOT again AND lane = 0`,
    [spaceId, token, keys, healed],
  );
  return rows.map(({ seconds }) => Math.max(0, seconds));
}

async function wait(
  tx: Executor,
  spaceId: number,
  token: string,
  waits: readonly Extract<Ending, { end: 'wait' }>[],
): Promise<void> {
  await tx.query(
    `UPDATE freshvec.lease l SET token = NULL, worker = NULL,
       expires_at = clock_timestamp() + make_interval(secs => w.seconds),
       losses = CASE w.because WHEN 'changed' THEN LEAST(l.losses + 1, 30) ELSE l.losses END,
       attempts = CASE w.because WHEN 'attempt' THEN l.attempts + 1 ELSE l.attempts END
     FROM (
       SELECT h.key, w.seconds, w.because FROM freshvec.lease h
       JOIN unnest($3::text[], $4::float8[], $5::text[]) AS w(key, seconds, because) ON w.key = h.key
       WHERE h.space_id = $1 AND h.token = $2::uuid
       ORDER BY h.key FOR UPDATE OF h) w
     WHERE l.space_id = $1 AND l.key = w.key`,
    [spaceId, token, waits.map((w) => w.key), waits.map((w) => w.seconds), waits.map((w) => w.because)],
  );
}

async function recordFailures(
  tx: Executor,
  spaceId: number,
  token: string,
  fails: readonly Extract<Ending, { end: 'fail' }>[],
): Promise<void> {
  await tx.query(
    `INSERT INTO freshvec.failure (space_id, key, code, message, attempts, hash, tenant)
     SELECT $1, f.key, f.code, f.message, f.attempts, f.hash, l.tenant
     FROM unnest($3::text[], $4::text[], $5::text[], $6::int[], $7::uuid[]) AS f(key, code, message, attempts, hash)
     JOIN freshvec.lease l ON l.space_id = $1 AND l.key = f.key AND l.token = $2::uuid
     ORDER BY f.key
     ON CONFLICT (space_id, key) DO UPDATE SET code = excluded.code, message = excluded.message,
       attempts = excluded.attempts, hash = excluded.hash, discarded = false, at = now()`,
    [
      spaceId,
      token,
      fails.map((f) => f.key),
      fails.map((f) => f.code),
      fails.map((f) => f.message),
      fails.map((f) => f.attempts),
      fails.map((f) => f.hash),
    ],
  );
}

/** Gives leases back at once, unpaid and uncharged: the worker is stopping. */
export async function release(db: Executor, spaceId: number, token: string): Promise<void> {
  await db.query(
    `WITH ended AS (
       DELETE FROM freshvec.lease l USING (
         SELECT key FROM freshvec.lease WHERE space_id = $1 AND token = $2::uuid
         ORDER BY key FOR UPDATE) held
       WHERE l.space_id = $1 AND l.key = held.key
       RETURNING l.key, l.force OR l.again_force AS force, l.lane, l.tenant
     )
     INSERT INTO freshvec.change (space_id, lane, key, tenant, force)
     SELECT $1, lane, key, tenant, NULLIF(force, false) FROM ended`,
    [spaceId, token],
  );
}
