import type { Executor } from '../db/database.js';

/** All services. */
export const EVERY = '*';

/** What a person told to rest. */
export interface MaintenancePause {
  /** A service's name, or `*`. */
  readonly service: string;
  readonly reason: string;
  readonly byWhom: string;
  readonly at: Date;
}

/** A second pause replaces the first. */
export async function pauseService(
  db: Executor,
  { service, reason, byWhom }: Omit<MaintenancePause, 'at'>,
): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.maintenance_pause (service, reason, by_whom) VALUES ($1, $2, $3)
     ON CONFLICT (service) DO UPDATE SET reason = excluded.reason, by_whom = excluded.by_whom, at = now()`,
    [service, reason, byWhom],
  );
}

/** `*` ends every pause. Resolves to whether there was one. */
export async function resumeService(db: Executor, service: string): Promise<boolean> {
  const rows = await db.query(
    `DELETE FROM freshvec.maintenance_pause WHERE service = $1 OR $1 = '${EVERY}' RETURNING 1`,
    [service],
  );
  return rows.length > 0;
}

export async function listPauses(db: Executor): Promise<MaintenancePause[]> {
  return db.query<{ [K in keyof MaintenancePause]: MaintenancePause[K] }>(
    'SELECT service, reason, by_whom AS "byWhom", at FROM freshvec.maintenance_pause ORDER BY service',
  );
}

/** The pause that keeps this service from running, its own before that of all. */
export function pauseFor(pauses: readonly MaintenancePause[], service: string): MaintenancePause | undefined {
  return pauses.find((pause) => pause.service === service) ?? pauses.find((pause) => pause.service === EVERY);
}
