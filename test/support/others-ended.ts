import type { Executor } from '../../src/db/database.js';
import { eventually } from './eventually.js';

/**
 * Waits for the transactions of other tests that are open now, in whatever database: while one holds the server's xmin
 * back, PostgreSQL frees no room on a page.
 */
export async function othersEnded(db: Executor): Promise<void> {
  const [now] = await db.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  const ended = async () => {
    const open = await db.query(
      `SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND xact_start <= $1::timestamptz
         AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)`,
      [now?.at],
    );
    return open.length === 0;
  };
  await eventually(ended, { timeoutMs: 30_000, intervalMs: 50, what: 'the transactions of other tests to end' });
}
