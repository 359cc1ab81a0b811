import { getMigration, hasEnded, type Migration, type MigrationState } from '../catalog/migration.js';
import type { Executor } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { literal } from '../db/identifiers.js';

/** A migration as whoever works on it knows it. */
export type Ours = Pick<Migration, 'id' | 'state' | 'token'>;

/** SQL: it still is in that state, and nobody took it over. For the first three parameters, `oursParams`. */
export const OURS = 'id = $1 AND state = $2 AND token IS NOT DISTINCT FROM $3::uuid';

export function oursParams({ id, state, token }: Ours): [number, MigrationState, string | null] {
  return [id, state, token ?? null];
}

/** The same without parameters. */
function oursSql({ id, state, token }: Ours): string {
  return `id = ${id} AND state = ${literal(state)} AND token IS NOT DISTINCT FROM ${token === undefined ? 'NULL' : literal(token)}::uuid`;
}

/** What a change of state writes beside it. */
export interface Note {
  /** For `migration_event`, in words. */
  readonly what: string;
  /** Stays on the row; null takes it away. */
  readonly reason?: string | null;
}

/**
 * Moves a migration on, if it still is in this state and nobody took it over: compare-and-set on (state, token). False
 * where it is not. The row stays locked until the caller's transaction ends, so that what it does is done in that state.
 */
export async function move(
  tx: Executor,
  migration: Ours,
  state: MigrationState,
  { what, reason = null }: Note,
): Promise<boolean> {
  const [moved] = await tx.query(
    `WITH moved AS (UPDATE freshvec.migration
     SET state = $4, reason = $5, tries = 0,
         parked_state = CASE WHEN $4 = 'parked' THEN state END,
         worked = CASE WHEN $4 = 'backfilling' AND state <> 'parked' THEN 0 ELSE worked END,
         throttled_at = CASE WHEN $4 = 'backfilling' AND state <> 'parked' THEN NULL ELSE throttled_at END,
         switched_at = CASE WHEN $4 = 'soaking' AND parked_state IS DISTINCT FROM 'soaking' THEN clock_timestamp() ELSE switched_at END,
         ended_at = CASE WHEN $4 IN ('done', 'aborted') THEN clock_timestamp() END
     WHERE ${OURS} RETURNING id)
     INSERT INTO freshvec.migration_event (migration_id, state, what) SELECT id, $4, $6 FROM moved RETURNING 1`,
    [...oursParams(migration), state, reason, what],
  );
  return moved !== undefined;
}

/** Back to filling the new space. False where the migration was moved by somebody else meanwhile. */
export async function recede(tx: Executor, migration: Ours & Pick<Migration, 'toSpaceId'>, what: string) {
  if (!(await move(tx, migration, 'backfilling', { what }))) return false;
  await tx.query(`UPDATE freshvec.space SET state = 'building' WHERE id = $1 AND state = 'ready'`, [
    migration.toSpaceId,
  ]);
  return true;
}

export async function record(tx: Executor, migrationId: number, state: MigrationState, what: string): Promise<void> {
  await tx.query('INSERT INTO freshvec.migration_event (migration_id, state, what) VALUES ($1, $2, $3)', [
    migrationId,
    state,
    what,
  ]);
}

/** Puts down what happened in this state. False where the migration is not ours any more: it is none of its history then. */
export async function recordOurs(tx: Executor, migration: Ours, what: string): Promise<boolean> {
  const [recorded] = await tx.query(
    `WITH held AS (SELECT id, state FROM freshvec.migration WHERE ${OURS} FOR NO KEY UPDATE)
     INSERT INTO freshvec.migration_event (migration_id, state, what) SELECT id, state, $4 FROM held RETURNING 1`,
    [...oursParams(migration), what],
  );
  return recorded !== undefined;
}

/** Says what a migration waits for, without a change of state. */
export async function waitFor(tx: Executor, migration: Ours, reason: string | null): Promise<void> {
  await tx.query(`UPDATE freshvec.migration SET reason = $4 WHERE ${OURS} AND reason IS DISTINCT FROM $4`, [
    ...oursParams(migration),
    reason,
  ]);
}

/**
 * Makes this controller the one that works on the migration: `first` from whoever had it, later only from a person's
 * command. Undefined where there is nothing to do for a controller, or another one has it.
 */
export async function takeOver(
  db: Executor,
  id: number,
  token: string,
  first: boolean,
): Promise<Migration | undefined> {
  await db.query(
    `UPDATE freshvec.migration SET token = $2::uuid
     WHERE id = $1 AND state NOT IN ('done', 'aborted', 'parked') AND NOT paused AND token IS DISTINCT FROM $2::uuid AND ($3 OR token IS NULL)`,
    [id, token, first],
  );
  const migration = await getMigration(db, id);
  const works = migration?.token === token && !migration.paused && !hasEnded(migration) && migration.state !== 'parked';
  return works ? migration : undefined;
}

/** SQLSTATE of a statement that found the migration in another state or hands. */
const TAKEN = 'FV001';

/** The same as `move`, as one statement for a plan: it fails where the migration is not ours any more. */
export function moveSql(migration: Ours, next: MigrationState, what: string): string {
  const ended = hasEnded({ state: next });
  return `DO $freshvec$ BEGIN
  UPDATE freshvec.migration SET state = ${literal(next)}, reason = NULL, tries = 0${ended ? ', ended_at = clock_timestamp()' : ''}
  WHERE ${oursSql(migration)};
  IF NOT FOUND THEN RAISE EXCEPTION 'freshvec: the migration was taken over' USING ERRCODE = '${TAKEN}'; END IF;
  INSERT INTO freshvec.migration_event (migration_id, state, what) VALUES (${migration.id}, ${literal(next)}, ${literal(what)});
END $freshvec$`;
}

export function wasTaken(error: unknown): boolean {
  return sqlState(error) === TAKEN;
}

/** The controller itself rests the migration, at the share of the rows that was asked for, until a person resumes it. */
export async function pauseSelf(tx: Executor, migration: Ours, reason: string): Promise<void> {
  const [paused] = await tx.query(
    `UPDATE freshvec.migration SET paused = true, until = NULL, reason = $4 WHERE ${OURS} RETURNING 1`,
    [...oursParams(migration), reason],
  );
  if (paused) await record(tx, migration.id, migration.state, reason);
}

/** Counts a try; resolves to how many there were in a row, 0 where the migration is not ours any more. */
export async function countTry(db: Executor, migration: Ours): Promise<number> {
  const [row] = await db.query<{ tries: number }>(
    `UPDATE freshvec.migration SET tries = tries + 1 WHERE ${OURS} RETURNING tries`,
    oursParams(migration),
  );
  return row?.tries ?? 0;
}

/** Takes back a try that was counted, and that nothing was wrong with. */
export async function forgetTry(db: Executor, migration: Ours): Promise<void> {
  await db.query(`UPDATE freshvec.migration SET tries = tries - 1 WHERE ${OURS} AND tries > 0`, oursParams(migration));
}

/** What was tried has come to its end. */
export async function forgetTries(db: Executor, migration: Ours): Promise<void> {
  await db.query(`UPDATE freshvec.migration SET tries = 0 WHERE ${OURS} AND tries > 0`, oursParams(migration));
}

/** Fails where the migration is not ours any more, else holds it until the transaction ends. */
export function holdSql(migration: Ours): string {
  return `DO $freshvec$ BEGIN
  PERFORM 1 FROM freshvec.migration WHERE ${oursSql(migration)} FOR NO KEY UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'freshvec: the migration was taken over' USING ERRCODE = '${TAKEN}'; END IF;
END $freshvec$`;
}
