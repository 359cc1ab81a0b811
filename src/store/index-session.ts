import { setTimeout as sleep } from 'node:timers/promises';
import { cancellable } from '../db/cancel.js';
import type { Database, Executor } from '../db/database.js';
import { classify } from '../db/errors.js';

export interface SessionOptions {
  /** How long each lock, and each transaction that is in the way, may be waited for, in ms; 0: for ever. */
  readonly lockTimeoutMs: number;
  /** Cancels the statement that runs; the signal's reason is thrown then. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A connection of its own for statements that take long and cannot run in a transaction. No time-out but that of locks
 * ends them, whatever the database or the role has by default: it would leave half of the work behind.
 */
export async function longSession<T>(
  db: Database,
  { lockTimeoutMs, signal }: SessionOptions,
  fn: (session: Executor) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  return db.session(async (session) => {
    await session.query(`SET lock_timeout = ${Math.ceil(lockTimeoutMs)}`);
    await session.query(`SET statement_timeout = 0`);
    // PostgreSQL 17 on: it would end the connection in mid-build.
    await session.query(
      `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')`,
    );
    return cancellable(db, session, signal, () => fn(session));
  });
}

/** What one try may wait for a lock, in ms, and how many there are. */
const TRY_MS = 80;
const TRIES = 30;
const PAUSE_MS = { first: 50, most: 1_000 };

/**
 * Runs DDL, one or more statements as one, that takes milliseconds but a lock that writers hold: who waits for it has
 * every later writer wait behind, so each try waits a moment only. Throws the last try's lock time-out.
 */
export async function briefly(db: Database, sql: string | readonly string[], signal?: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    try {
      await db.tx(async (tx) => {
        await tx.query(`SET LOCAL lock_timeout = ${TRY_MS}`);
        for (const statement of [sql].flat()) await tx.query(statement);
      });
      return;
    } catch (error) {
      if (classify(error) !== 'lock_timeout' || attempt >= TRIES) throw error;
      await sleep(Math.min(PAUSE_MS.first * 2 ** attempt, PAUSE_MS.most) * (0.5 + Math.random() / 2));
    }
  }
}
