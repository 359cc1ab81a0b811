import type pg from 'pg';
import { FreshvecError } from './errors.js';

/** How often two connections are compared: on a busy pooler somebody may take the backend in between. */
const LOOKS = 5;

/**
 * Throws FreshvecError `pooler` where `client` has no backend of its own: a pooler in transaction mode lends it another
 * for each transaction, so LISTEN hears nothing, and SET and CREATE INDEX CONCURRENTLY meet strangers' sessions.
 *
 * A pooler hands out a cancel key of its own, and so does many an honest proxy; only the former has two connections
 * answered by one backend.
 */
export async function refusePooler(
  client: pg.Client,
  target: string,
  another: () => Promise<pg.Client>,
): Promise<void> {
  if ((await backendOf(client)) === readProcessId(client)) return;
  const other = await another();
  try {
    for (let look = 0; look < LOOKS; look++) {
      if ((await backendOf(client)) === (await backendOf(other))) throw poolerError(target);
    }
  } finally {
    await other.end().catch(() => undefined);
  }
}

/** PgBouncer does not take settings at the start of a connection. */
export function isPoolersRefusal(error: unknown): boolean {
  return error instanceof Error && /unsupported startup parameter/.test(error.message);
}

export function poolerError(target: string, options?: ErrorOptions): FreshvecError {
  return new FreshvecError(
    'pooler',
    `${target} is a pooler that lends a session for one transaction only. LISTEN, CREATE INDEX CONCURRENTLY and the queue on ` +
      'PostgreSQL need the server itself: set DATABASE_DIRECT_URL to it. Without it changes are found by polling, and no index is built.',
    options,
  );
}

async function backendOf(client: pg.Client): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: string }>('SELECT pg_backend_pid() AS pid');
  return rows[0] && Number(rows[0].pid);
}

/** What the server said of itself when the connection was made. */
function readProcessId(client: pg.Client): number | undefined {
  return 'processID' in client && typeof client.processID === 'number' ? client.processID : undefined;
}
