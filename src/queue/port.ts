import type { ScheduledService } from '../config/config.js';

/** What a job asks for. Ids only, never content. */
export interface DrainJob {
  readonly spaceId: number;
  /** Which of the parallel drains of this space: 0 upward. */
  readonly slot: number;
}

/** Services that the scheduler wakes; each is one file in `src/maintenance`. */
export type MaintenanceService = ScheduledService;

/** Asks for a controller of a migration. */
export interface ReembedJob {
  readonly migrationId: number;
}

export interface QueueHandlers {
  /** Runs one drain to its end. `signal` aborts when the worker is told to stop. */
  drain(job: DrainJob, signal: AbortSignal): Promise<void>;
  maintain(service: MaintenanceService, signal: AbortSignal): Promise<void>;
  /** Works on a migration for as long as there is something to do. */
  reembed(job: ReembedJob, signal: AbortSignal): Promise<void>;
}

/** The queue carries wake-ups and schedules; losing all of it loses nothing (DESIGN law 1). */
export interface Queue {
  readonly backend: 'redis' | 'postgres' | 'pglite';
  /**
   * Wakes a drain. Deduplicated per space and slot with keep-last-if-active. Resolves to false, within a second or
   * two, when the queue cannot be reached: the caller's poll then does the work without it.
   */
  wake(job: DrainJob): Promise<boolean>;
  /** Wakes a controller of a migration; the same promises as `wake`. */
  wakeReembed(job: ReembedJob): Promise<boolean>;
  /** Starts consuming; `concurrency` drains at a time. May be called once. */
  work(handlers: Partial<QueueHandlers>, options: { concurrency: number }): Promise<void>;
  /** Ensures the schedules (idempotent); milliseconds by service. Services that are absent lose theirs. */
  schedule(everyMs: Partial<Record<MaintenanceService, number>>): Promise<void>;
  /** Removes all jobs and schedules, running ones too. Throws when the queue cannot be reached. For uninstalling. */
  obliterate(): Promise<void>;
  /** Stops taking jobs, lets running handlers see their signal, waits for them, closes connections. */
  close(): Promise<void>;
}
