import { randomUUID } from 'node:crypto';
import type { Database } from '../db/database.js';

const HOLD_SECONDS = 30;

/**
 * Runs `fn` unless another process does just now; resolves to whether it ran. A lease row, renewed while `fn` runs, in
 * place of an advisory lock, so that it passes a pooler. `lost` aborts when the row was taken over: this process slept
 * past its time and must stop.
 */
export async function asSingleton(
  db: Database,
  name: string,
  fn: (lost: AbortSignal) => Promise<void>,
): Promise<boolean> {
  const token = randomUUID();
  const [taken] = await db.query(
    `INSERT INTO freshvec.singleton AS s (name, token, expires_at)
     VALUES ($1, $2::uuid, clock_timestamp() + make_interval(secs => $3))
     ON CONFLICT (name) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
       WHERE s.expires_at <= clock_timestamp()
     RETURNING 1`,
    [name, token, HOLD_SECONDS],
  );
  if (!taken) return false;
  const lost = new AbortController();
  const renewal = setInterval(
    () => {
      db.query(
        `UPDATE freshvec.singleton SET expires_at = clock_timestamp() + make_interval(secs => $3)
       WHERE name = $1 AND token = $2::uuid RETURNING 1`,
        [name, token, HOLD_SECONDS],
      ).then(
        (rows) => rows.length === 0 && lost.abort(),
        () => {}, // The next renewal tries again; past the expiry somebody else may take over.
      );
    },
    (HOLD_SECONDS * 1000) / 3,
  );
  try {
    await fn(lost.signal);
    return true;
  } finally {
    clearInterval(renewal);
    await db
      .query(`DELETE FROM freshvec.singleton WHERE name = $1 AND token = $2::uuid`, [name, token])
      .catch(() => {});
  }
}
