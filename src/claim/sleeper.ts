import type { Executor } from '../db/database.js';

const SLEEPER_SECONDS = 60;

/**
 * Has capture ring for this worker. A row that is there is renewed only when half its time is over. Resolves to
 * whether the row was there already; also clears the rows of workers that died asleep.
 */
export async function lieDown(db: Executor, id: string, known: boolean): Promise<boolean> {
  if (known) {
    const [row] = await db.query<{ young: boolean }>(
      `SELECT expires_at > clock_timestamp() + make_interval(secs => $2) AS young FROM freshvec.sleeper WHERE id = $1::uuid`,
      [id, SLEEPER_SECONDS / 2],
    );
    if (row?.young) return true;
  }
  await db.query(`DELETE FROM freshvec.sleeper WHERE expires_at <= clock_timestamp()`);
  const [row] = await db.query<{ there: boolean }>(
    `INSERT INTO freshvec.sleeper AS s (id, expires_at) VALUES ($1::uuid, clock_timestamp() + make_interval(secs => $2))
     ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at RETURNING xmax::text <> '0' AS there`,
    [id, SLEEPER_SECONDS],
  );
  return row?.there ?? false;
}

/** Takes the row away: this worker is awake. */
export async function wakeUp(db: Executor, id: string): Promise<void> {
  await db.query('DELETE FROM freshvec.sleeper WHERE id = $1::uuid', [id]);
}
