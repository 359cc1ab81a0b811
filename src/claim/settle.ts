import type { LongText } from '../catalog/long-texts.js';
import type { Database, Executor } from '../db/database.js';
import { LANES } from './lease.js';

// Keys are looked up as a list, and a lease's token told by IS NOT DISTINCT FROM, where one might expect a join and `=`: these
// tables fill and empty so fast that their statistics are often those of an empty table, by which a planner reads all of
// a space's leases for each of the keys.

/**
 * How a lease ends. `done` drops it, and any failure of the key with it; `skip` drops it and leaves a failure as it is;
 * `wait` keeps the key for later; `fail` sets it aside with a reason.
 */
export type Ending =
  | { readonly key: string; readonly end: 'skip' }
  | { readonly key: string; readonly end: 'done'; readonly vector?: NewVector | undefined }
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
      readonly vector?: 'none' | undefined;
    };

/**
 * What the row's vector is from now on, to be noted: that of its whole text, one of a text that was too long, or none.
 * Absent where the vector stayed as it was.
 */
export type NewVector = 'whole' | 'none' | LongText;

/**
 * Ends leases, in the caller's transaction. A key that changed while it was held goes back into `change` in that same
 * transaction. Keys whose lease is not ours any more are left alone.
 *
 * Leases are locked in key order and waited for, so a transaction that holds other locks may settle only leases that it
 * has locked already (a store's write has, for the keys it calls written or changed); else claimers could deadlock.
 *
 * With `last` the transaction ends with it, and COMMIT may go along with the last statement.
 *
 * Resolves to how long ago, in s, the edits of the interactive lane were made that are done and not waiting again.
 */
export async function settle(
  tx: Executor,
  spaceId: number,
  token: string,
  endings: readonly Ending[],
  { last = false }: { readonly last?: boolean } = {},
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
  const vectors = new Map(endings.flatMap((e) => ('vector' in e && e.vector ? [[e.key, e.vector] as const] : [])));
  const end = unhealed.length > 0 ? 'unhealed' : waits.length > 0 ? 'waits' : 'done';
  const healed = { vectors, healed: true, last: last && end === 'done' };
  const lagSeconds = done.length > 0 ? await finish(tx, spaceId, token, done, healed) : [];
  if (waits.length > 0) await wait(tx, spaceId, token, waits, last && end === 'waits');
  if (fails.length > 0) await recordFailures(tx, spaceId, token, fails);
  if (unhealed.length > 0) await finish(tx, spaceId, token, unhealed, { vectors, healed: false, last });
  return lagSeconds;
}

async function finish(
  tx: Executor,
  spaceId: number,
  token: string,
  keys: string[],
  { vectors, healed, last }: { vectors: ReadonlyMap<string, NewVector>; healed: boolean; last: boolean },
): Promise<number[]> {
  const ending = endingSql({ spaceId, vectors, healed }, 'SELECT key FROM held', 4);
  const rows = await tx.query<{ seconds: number | null }>(
    `WITH held AS MATERIALIZED (
       SELECT key FROM freshvec.lease
       WHERE space_id = $1 AND token IS NOT DISTINCT FROM $2::uuid AND key = ANY($3::text[]) ORDER BY key FOR UPDATE
     ), ${ending.ctes}
     SELECT seconds FROM __fv_ended`,
    [spaceId, token, keys, ...ending.params],
    { last },
  );
  return rows.flatMap(({ seconds }) => seconds ?? []);
}

/** How leases end that a statement drops. */
export interface Dropping {
  readonly spaceId: number;
  /** Of keys that it may drop. */
  readonly vectors: ReadonlyMap<string, NewVector>;
  /** A failure of the key goes with the lease. */
  readonly healed: boolean;
}

/**
 * CTEs that drop the leases whose keys `locked` selects, which the statement has locked. `__fv_ended` is one of them: `key`,
 * and `seconds`, how long ago the edit was made if it was one of the interactive lane and does not wait again, else NULL.
 * @param first the number of its first parameter
 */
export function endingSql(
  { spaceId, vectors, healed }: Dropping,
  locked: string,
  first: number,
): { readonly ctes: string; readonly params: readonly unknown[] } {
  const renewed = [...vectors].filter(([, vector]) => typeof vector === 'string').map(([key]) => key);
  const long = [...vectors].flatMap(([key, vector]) => (typeof vector === 'string' ? [] : [{ key, ...vector }]));
  const ended = (of: string) => `${of}.space_id = ${spaceId} AND ${of}.key = ANY(ARRAY(SELECT key FROM __fv_ended))`;
  const $ = (n: number) => `$${first + n}`;
  const ctes = [
    `__fv_ended AS (
       DELETE FROM freshvec.lease l WHERE l.space_id = ${spaceId} AND l.key = ANY(ARRAY(${locked}))
       RETURNING l.key, l.again, l.again_force, l.lane, l.tenant, CASE WHEN l.lane = ${LANES.interactive} AND NOT l.again
         THEN greatest(0, extract(epoch FROM clock_timestamp() - l.since))::float8 END AS seconds)`,
    `__fv_whole AS (DELETE FROM freshvec.long_text t WHERE ${ended('t')} AND t.key = ANY(${$(0)}::text[]))`,
    `__fv_long AS (
       INSERT INTO freshvec.long_text (space_id, key, how, tokens, max_tokens, pieces)
       SELECT ${spaceId}, key, how, tokens, max_tokens, pieces
       FROM unnest(${$(1)}::text[], ${$(2)}::text[], ${$(3)}::bigint[], ${$(4)}::int[], ${$(5)}::int[]) AS l(key, how, tokens, max_tokens, pieces)
       JOIN __fv_ended e USING (key) ORDER BY key
       ON CONFLICT (space_id, key) DO UPDATE SET how = excluded.how, tokens = excluded.tokens,
         max_tokens = excluded.max_tokens, pieces = excluded.pieces, at = now())`,
    `__fv_back AS (
       INSERT INTO freshvec.change (space_id, lane, key, tenant, force)
       SELECT ${spaceId}, lane, key, tenant, NULLIF(again_force, false) FROM __fv_ended WHERE again)`,
    ...(healed ? [`__fv_healed AS (DELETE FROM freshvec.failure f WHERE ${ended('f')})`] : []),
  ];
  const params = [
    renewed,
    long.map((l) => l.key),
    long.map((l) => l.how),
    long.map((l) => l.tokens),
    long.map((l) => l.maxTokens),
    long.map((l) => l.pieces),
  ];
  return { ctes: ctes.join(', '), params };
}

async function wait(
  tx: Executor,
  spaceId: number,
  token: string,
  waits: readonly Extract<Ending, { end: 'wait' }>[],
  last: boolean,
): Promise<void> {
  await tx.query(
    `UPDATE freshvec.lease l SET token = NULL, worker = NULL,
       expires_at = clock_timestamp() + make_interval(secs => w.seconds),
       losses = CASE w.because WHEN 'changed' THEN LEAST(l.losses + 1, 30) ELSE l.losses END,
       attempts = CASE w.because WHEN 'attempt' THEN l.attempts + 1 ELSE l.attempts END
     FROM (
       SELECT h.key, w.seconds, w.because FROM freshvec.lease h
       JOIN unnest($3::text[], $4::float8[], $5::text[]) AS w(key, seconds, because) ON w.key = h.key
       WHERE h.space_id = $1 AND h.token IS NOT DISTINCT FROM $2::uuid AND h.key = ANY($3::text[])
       ORDER BY h.key FOR UPDATE OF h) w
     WHERE l.space_id = $1 AND l.key = w.key AND l.key = ANY($3::text[])`,
    [spaceId, token, waits.map((w) => w.key), waits.map((w) => w.seconds), waits.map((w) => w.because)],
    { last },
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

/** Gives leases back at once, unpaid and uncharged, as old as they are: the worker is stopping, or its drain failed. */
export async function release(db: Executor, spaceId: number, token: string): Promise<void> {
  await db.query(
    `WITH held AS MATERIALIZED (
       SELECT key FROM freshvec.lease WHERE space_id = $1 AND token = $2::uuid ORDER BY key FOR UPDATE
     ), ended AS (
       DELETE FROM freshvec.lease l WHERE l.space_id = $1 AND l.key = ANY(ARRAY(SELECT key FROM held))
       RETURNING l.key, l.force OR l.again_force AS force, l.lane, l.tenant, l.since
     )
     INSERT INTO freshvec.change (space_id, lane, key, tenant, force, at)
     SELECT $1, lane, key, tenant, NULLIF(force, false), since FROM ended`,
    [spaceId, token],
  );
}

/**
 * Ends a batch of which some transactions did not wait for the disk: waits for it for all of them, and gives back what a
 * crash between them took back, which a worker that was waiting for its turn meanwhile has not noticed.
 */
export async function endUnflushed(db: Database, spaceId: number, token: string): Promise<void> {
  await db.tx(async (tx) => {
    // The commit of a transaction that has logged nothing waits for nothing; an id alone is not logged, a row's lock is.
    await tx.query('SELECT FROM freshvec.space WHERE id = $1 FOR KEY SHARE', [spaceId]);
    await release(tx, spaceId, token);
  });
}
