import { hostname, userInfo } from 'node:os';
import { suggest } from '../config/suggest.js';
import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { type AutovacuumProposal, proposeAutovacuum, setAutovacuum } from '../maintenance/autovacuum.js';
import { listMaintenance, type MaintenanceReport } from '../maintenance/list.js';
import {
  EVERY,
  listPauses,
  type MaintenancePause,
  pauseFor,
  pauseService,
  resumeService,
} from '../maintenance/pauses.js';
import { type ReindexReport, type ReindexRequest, reindexSource } from '../maintenance/reindex-source.js';
import { listRuns, type MaintenanceRun, readClock } from '../maintenance/run-log.js';
import { refuseBusy, runService, SERVICE_NAMES } from '../maintenance/services.js';
import type { MaintenanceService } from '../queue/port.js';
import type { BuildProgress } from '../store/build-progress.js';
import type { Connection } from './connection.js';

export interface MaintenanceRunOptions {
  /** Only what belongs to this source. */
  readonly source?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

export interface MaintenanceTurn {
  readonly service: string;
  /** `busy`: what there was to do is held by somebody else, and waits for the next time. */
  readonly outcome: 'done' | 'nothing' | 'busy';
  /** What was logged, oldest first. */
  readonly runs: MaintenanceRun[];
}

export interface MaintenanceApi {
  /** Services, the newest runs (50 unless told) and settings that are proposed. */
  list(options?: { readonly limit?: number | undefined }): Promise<MaintenanceReport>;
  /** Gives a service a turn now, outside its window too. Throws FreshvecError `maintenance_paused`, `maintenance_busy`. */
  run(service: string, options?: MaintenanceRunOptions): Promise<MaintenanceTurn>;
  /** Autovacuum settings that tables with vectors should have; changes nothing. */
  proposals(source?: string): Promise<AutovacuumProposal[]>;
  /** Sets what is proposed. */
  applyProposals(source?: string): Promise<AutovacuumProposal[]>;
  /** Has a service, or all of them, rest until it is resumed; one that is at work ends its turn. */
  pause(service?: string, options?: { readonly reason?: string | undefined }): Promise<MaintenancePause>;
  /** Resolves to whether there was a pause; without a service all pauses end. */
  resume(service?: string): Promise<boolean>;
  /** Builds the index of a source again, or one with other parameters in its place. */
  reindex(source: string, request?: ReindexRequest, options?: MaintenanceRunOptions): Promise<ReindexReport>;
}

export function maintenanceApi(connection: () => Promise<Connection>): MaintenanceApi {
  const ready = async () => (await connection()).ready();
  const settings = async () => (await connection()).config.maintenance;

  return {
    async list({ limit = 50 } = {}) {
      const { config } = await connection();
      return listMaintenance(await ready(), {
        limit,
        everyMs: config.maintenance.everyMs,
        settings: config.maintenance,
      });
    },
    async run(name, options = {}) {
      const service = serviceNamed(name);
      const db = await ready();
      const { cache } = (await connection()).config;
      const since = await readClock(db);
      const context = { ...options, db, settings: await settings(), cacheMaxBytes: cache.maxBytes, byPerson: true };
      const turn = await runService(service, context);
      if (turn === 'paused') throw await paused(db, service);
      if (turn === 'busy') return refuseBusy(db);
      const runs = (await listRuns(db, { limit: 200, since })).reverse();
      const busy = turn === 'nothing' && runs.some(({ outcome }) => outcome === 'busy');
      return { service, outcome: busy ? 'busy' : turn === 'done' ? 'done' : 'nothing', runs };
    },
    proposals: async (source) => proposeAutovacuum(await ready(), source),
    applyProposals: async (source) => setAutovacuum(await ready(), { source, byPerson: true }),
    async pause(name, { reason } = {}) {
      const service = name === undefined ? EVERY : serviceNamed(name);
      const db = await ready();
      await pauseService(db, { service, reason: reason?.trim() || 'by hand', byWhom: whoAmI() });
      const made = (await listPauses(db)).find((pause) => pause.service === service);
      if (!made) throw new FreshvecError('maintenance_paused', 'Somebody ended the pause at once.');
      return made;
    },
    resume: async (name) => resumeService(await ready(), name === undefined ? EVERY : serviceNamed(name)),
    async reindex(source, request = {}, options = {}) {
      const { lockTimeoutMs } = await settings();
      return reindexSource(await ready(), source, request, { ...options, lockTimeoutMs });
    },
  };
}

function serviceNamed(name: string): MaintenanceService {
  const service = SERVICE_NAMES.find((known) => known === name);
  if (service) return service;
  const near = suggest(name, SERVICE_NAMES);
  throw new FreshvecError(
    'maintenance_request_invalid',
    `There is no service "${name}"${near ? `; did you mean "${near}"?` : `. There are: ${SERVICE_NAMES.join(', ')}.`}`,
  );
}

async function paused(db: Database, service: MaintenanceService): Promise<FreshvecError> {
  const pause = pauseFor(await listPauses(db), service);
  const why = pause ? ` by ${pause.byWhom}: ${pause.reason}` : '';
  const what = pause?.service === EVERY ? '' : ` ${service}`;
  return new FreshvecError(
    'maintenance_paused',
    `The service "${service}" is paused${why}. Run \`freshvec maintain resume${what}\` first.`,
  );
}

function whoAmI(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return hostname(); // A container's user may have no name.
  }
}
