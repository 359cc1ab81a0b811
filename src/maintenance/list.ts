import type { Executor } from '../db/database.js';
import type { MaintenanceService } from '../queue/port.js';
import { type AutovacuumProposal, proposeAutovacuum } from './autovacuum.js';
import { listPauses, type MaintenancePause, pauseFor } from './pauses.js';
import { listRuns, type MaintenanceRun } from './run-log.js';
import { type MaintenanceSettings, SERVICE_NAMES, SERVICES } from './services.js';

/** How one service is scheduled, and how its last turn went. */
export interface MaintenanceServiceStatus {
  readonly service: MaintenanceService;
  readonly everyMs: number;
  /** `22:00-06:00 Europe/Berlin`; null: at any time. */
  readonly window: string | null;
  readonly paused: MaintenancePause | null;
  readonly last: { readonly startedAt: Date; readonly endedAt: Date | null; readonly outcome: string } | null;
}

export interface MaintenanceReport {
  readonly services: MaintenanceServiceStatus[];
  /** Newest first. */
  readonly runs: MaintenanceRun[];
  /** What `maintain run settings` would set. */
  readonly proposals: AutovacuumProposal[];
}

type Last = { service: string; startedAt: Date; endedAt: Date | null; outcome: string };

export async function listMaintenance(
  db: Executor,
  {
    limit,
    everyMs,
    settings,
  }: { limit: number; everyMs: Partial<Record<MaintenanceService, number>>; settings: MaintenanceSettings },
): Promise<MaintenanceReport> {
  const pauses = await listPauses(db);
  const lasts = await db.query<Last>(
    'SELECT service, started_at AS "startedAt", ended_at AS "endedAt", outcome FROM freshvec.maintenance_service',
  );
  const window = settings.window === undefined ? null : `${settings.window} ${settings.timeZone}`;
  const services = SERVICE_NAMES.map((service): MaintenanceServiceStatus => {
    const last = lasts.find((one) => one.service === service);
    return {
      service,
      everyMs: everyMs[service] ?? SERVICES[service].everyMs,
      window: SERVICES[service].heavy ? window : null,
      paused: pauseFor(pauses, service) ?? null,
      last: last ? { startedAt: last.startedAt, endedAt: last.endedAt, outcome: last.outcome } : null,
    };
  });
  return { services, runs: await listRuns(db, { limit }), proposals: await proposeAutovacuum(db) };
}
