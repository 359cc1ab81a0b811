import type { Executor } from '../db/database.js';

/** Processes that said they search the source with an epoch before the present one, and whose word still counts. */
export async function oldReaders(db: Executor, sourceId: number): Promise<string[]> {
  const rows = await db.query<{ name: string; role: string; epoch: number; seconds: number }>(
    `SELECT r.name, r.role::text AS role, r.epoch, ceil(extract(epoch FROM r.expires_at - clock_timestamp()))::int AS seconds
     FROM freshvec.reader r JOIN freshvec.pointer p ON p.source_id = r.source_id
     WHERE r.source_id = $1 AND r.epoch < p.epoch AND r.expires_at > clock_timestamp()
     ORDER BY r.name, r.id`,
    [sourceId],
  );
  return rows.map(
    ({ name, role, epoch, seconds }) => `${name} (role ${role}, epoch ${epoch}, its word counts for ${seconds} s)`,
  );
}
