import { setTimeout as sleep } from 'node:timers/promises';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { openModel } from '../../src/embed/open.js';
import { planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { type MigrationStatus, migrationStatus } from '../../src/reembed/status.js';
import { describeSignal } from '../../src/reembed/throttle/describe.js';
import type { Lab } from './lab.js';

export const LOOK_MS = 500;
const SAY_MS = 15_000;

/** Starts the move of a source to this model and store, as `freshvec reembed start` does. */
export async function startMigration(
  db: Database,
  source: string,
  model: string,
  store: StoreKind = 'column',
): Promise<MigrationStatus> {
  const plan = await planReembed(db, source, { model, store }, await openModel(model, { requestTimeoutMs: 30_000 }));
  await startReembed(db, plan);
  return migrationStatus(db, source);
}

export interface Watched {
  readonly status: MigrationStatus;
  /** Means of the share over the time that it was backfilling. */
  readonly meanShare: number;
  /** When the backfill was first seen to be held back by nothing, as Unix time in ms, and how many rows were done. */
  readonly opened: { readonly at: number; readonly done: number } | undefined;
  /** Looks at which a signal held the backfill back, by its name, as Unix times in ms `LOOK_MS` apart, with the last reason. */
  readonly pressed: ReadonlyMap<string, { readonly looks: readonly number[]; readonly last: string }>;
}

/** Waits until the migration stands at one of these states; throws where it parks. Says now and then how it goes. */
export async function migrationAt(
  lab: Lab,
  db: Database,
  source: string,
  states: readonly MigrationStatus['state'][],
): Promise<Watched> {
  const shares: number[] = [];
  const pressed = new Map<string, { looks: number[]; last: string }>();
  let opened: Watched['opened'];
  for (let saidAt = performance.now(); ; ) {
    const status = await migrationStatus(db, source);
    if (status.state === 'parked' || status.state === 'aborted') throw new Error(`${status.state}: ${status.reason}`);
    if (status.state === 'backfilling') {
      shares.push(status.share);
      if (status.share >= 1) opened ??= { at: Date.now(), done: status.done };
      for (const signal of status.throttle.filter(({ state }) => state !== 'fine'))
        pressed.set(signal.name, {
          looks: [...(pressed.get(signal.name)?.looks ?? []), Date.now()],
          last: describeSignal(signal),
        });
    }
    if (performance.now() - saidAt > SAY_MS) {
      saidAt = performance.now();
      const { state, done, rows, rate, share, reason } = status;
      const held = status.throttle.filter(({ state }) => state !== 'fine').map(describeSignal);
      lab.say(
        [`${state}: ${done} of ${rows}, ${rate ?? 0}/s, share ${share.toFixed(2)}`, reason, ...held]
          .filter((part) => part !== null)
          .join('; '),
      );
    }
    if (states.includes(status.state)) {
      const meanShare = shares.reduce((sum, share) => sum + share, 0) / shares.length;
      return { status, meanShare, opened, pressed };
    }
    await sleep(LOOK_MS);
  }
}

/** Unix times in ms between which the migration was in this state, by its record. */
export function timesIn(status: MigrationStatus, state: string): { from: number; to: number }[] {
  const { events } = status;
  return events.flatMap((event, i) => {
    const next = events[i + 1];
    if (event.state !== state) return [];
    return [{ from: Date.parse(event.at), to: next === undefined ? Number.POSITIVE_INFINITY : Date.parse(next.at) }];
  });
}

export function secondsIn(status: MigrationStatus, state: string): number {
  return timesIn(status, state).reduce((sum, { from, to }) => sum + to - from, 0) / 1000;
}
