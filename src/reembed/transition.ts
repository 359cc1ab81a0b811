import { getMigration, type Migration, type MigrationState } from '../catalog/migration.js';
import type { Executor } from '../db/database.js';

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
  migration: Pick<Migration, 'id' | 'state' | 'token'>,
  state: MigrationState,
  { what, reason = null }: Note,
): Promise<boolean> {
  const [moved] = await tx.query(
    `UPDATE freshvec.migration m
     SET state = $4, reason = $5, tries = 0,
         parked_state = CASE WHEN $4 = 'parked' THEN m.state END,
         switched_at = CASE WHEN $4 = 'soaking' THEN clock_timestamp() ELSE m.switched_at END,
         ended_at = CASE WHEN $4 IN ('done', 'aborted') THEN clock_timestamp() END
     WHERE m.id = $1 AND m.state = $2 AND m.token IS NOT DISTINCT FROM $3::uuid RETURNING 1`,
    [migration.id, migration.state, migration.token ?? null, state, reason],
  );
  if (!moved) return false;
  await record(tx, migration.id, state, what);
  return true;
}

export async function record(tx: Executor, migrationId: number, state: MigrationState, what: string): Promise<void> {
  await tx.query('INSERT INTO freshvec.migration_event (migration_id, state, what) VALUES ($1, $2, $3)', [
    migrationId,
    state,
    what,
  ]);
}

/** Holds the migration as it is until the transaction ends; false where it is not any more. */
export async function hold(
  tx: Executor,
  { id, state, token }: Pick<Migration, 'id' | 'state' | 'token'>,
): Promise<boolean> {
  const [held] = await tx.query(
    `SELECT 1 FROM freshvec.migration WHERE id = $1 AND state = $2 AND token IS NOT DISTINCT FROM $3::uuid FOR NO KEY UPDATE`,
    [id, state, token ?? null],
  );
  return held !== undefined;
}

/** Says what a migration waits for, without a change of state. */
export async function waitFor(tx: Executor, { id, state, token }: Migration, reason: string | null): Promise<void> {
  await tx.query(
    `UPDATE freshvec.migration SET reason = $4
     WHERE id = $1 AND state = $2 AND token IS NOT DISTINCT FROM $3::uuid AND reason IS DISTINCT FROM $4`,
    [id, state, token ?? null, reason],
  );
}

/** Makes this controller the one that works on the migration; what another has in hand is not recorded any more. */
export async function takeOver(db: Executor, id: number, token: string): Promise<Migration | undefined> {
  await db.query(
    `UPDATE freshvec.migration SET token = $2::uuid WHERE id = $1 AND state NOT IN ('done', 'aborted', 'parked') AND NOT paused`,
    [id, token],
  );
  const migration = await getMigration(db, id);
  return migration?.token === token ? migration : undefined;
}
