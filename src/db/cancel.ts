import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Executor } from './database.js';

/** A cancel that comes between two statements ends nothing: how soon the next one is sent, in ms. */
const AGAIN_MS = 100;

/**
 * Runs what takes long and may be lost in a transaction that is open, or in a session: once `stop` aborts, the statement
 * that runs is cancelled, and whatever `fn` begins after it, and the signal's reason is thrown, which rolls all back. On
 * the embedded database it is waited for: `tx` has its only connection.
 */
export async function cancellable<T>(
  db: Database,
  tx: Executor,
  stop: AbortSignal | undefined,
  fn: () => Promise<T>,
): Promise<T> {
  if (!stop || db.kind === 'pglite') return fn();
  const [backend] = await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  let over = false;
  let cancelling: Promise<void> | undefined;
  const cancel = async () => {
    while (!over) {
      await db.query('SELECT pg_cancel_backend($1::int)', [backend?.pid]).catch(() => {});
      if (!over) await sleep(AGAIN_MS);
    }
  };
  const begin = () => {
    cancelling = cancel();
  };
  stop.throwIfAborted();
  stop.addEventListener('abort', begin, { once: true });
  try {
    return await fn();
  } catch (error) {
    stop.throwIfAborted(); // What was cancelled says so.
    throw error;
  } finally {
    over = true;
    stop.removeEventListener('abort', begin);
    // The backend is ours while `tx` is: a cancel that came later could meet a stranger's statement.
    await cancelling;
  }
}
