import { setTimeout as sleep } from 'node:timers/promises';
import { createGates } from '../../src/budget/gates.js';
import { getMigration, type Migration } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace, type Space } from '../../src/catalog/space.js';
import { DEFAULT_GATES } from '../../src/config/config.js';
import { controlMigration } from '../../src/reembed/controller.js';
import { runGates } from '../../src/reembed/gates/run.js';
import type { ControllerDeps } from '../../src/reembed/operation.js';
import { deps } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import type { Fixture } from '../support/fixture.js';
import type { Held } from './rows.js';

/** A migration under way: one controller with the real gates, and workers, in this process. */
export interface Running {
  /** While false, workers rest. */
  works: boolean;
  /** What controller and workers threw, and survived. */
  readonly errors: readonly unknown[];
  /** Resolves to the migration once this is so. */
  until(what: string, holds: (migration: Migration) => boolean): Promise<Migration>;
  state(state: Migration['state']): Promise<Migration>;
  stop(): Promise<void>;
}

/** How long what failed rests, as in `startReembedder`, but for tests. */
const AFTER_FAILURE_MS = 100;

export function keepMigrating(fixture: Fixture, id: number, over: Partial<ControllerDeps> = {}): Running {
  const { db, models } = fixture;
  const stop = new AbortController();
  const budget = createGates(db, {}, () => {});
  const errors: unknown[] = [];
  const with_ = deps(db, {
    runGates: (of) => runGates({ ...of, db, models, budget, settings: DEFAULT_GATES }),
    ...over,
  });
  const again = async (step: () => Promise<unknown>) => {
    while (!stop.signal.aborted) {
      const restMs = await step().then(
        () => 20,
        (error: unknown) => {
          errors.push(error);
          return AFTER_FAILURE_MS;
        },
      );
      await sleep(restMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  };
  const work = async () => {
    if (running.works) await fixture.work();
  };
  const running: Running = {
    works: true,
    errors,
    async until(what, holds) {
      let now: Migration | undefined;
      const reached = async () => {
        now = await getMigration(db, id);
        return now !== undefined && holds(now);
      };
      await eventually(reached, { timeoutMs: 60_000, what }).catch((error: unknown) => {
        const seen = errors.slice(-3).map(String).join('; ');
        throw new Error(`${what}, but it is ${now?.state}: ${now?.reason}\n${JSON.stringify(now?.gates)}\n${seen}`, {
          cause: error,
        });
      });
      if (!now) throw new Error('the migration is gone');
      return now;
    },
    state: (state) => running.until(state, (now) => now.state === state),
    async stop() {
      stop.abort();
      await loops;
      await budget.close();
    },
  };
  const loops = Promise.all([again(() => controlMigration(with_, id, stop.signal)), again(work)]);
  return running;
}

/** Source and space as they are in the catalog now; the oracle of rows.ts wants both. */
export async function heldNow({ db }: Pick<Fixture, 'db'>, source: string, spaceId: number): Promise<Held> {
  const space = await getSpace(db, spaceId);
  if (!space) throw new Error(`there is no space ${spaceId}`);
  return { source: await getSource(db, source), space };
}

/** Waits until nothing is left to do in any of these spaces; fails when nothing gets less for a while. */
export async function drained({ db }: Pick<Fixture, 'db'>, spaces: readonly Pick<Space, 'id'>[]): Promise<void> {
  let least = Number.POSITIVE_INFINITY;
  let left: { changes: number; leases: number; ranges: number; waiting: number } | undefined;
  const less = async () => {
    [left] = await db.query<{ changes: number; leases: number; ranges: number; waiting: number }>(
      `SELECT (SELECT count(*) FROM freshvec.change_key WHERE space_id = ANY($1::int[])) AS changes,
         (SELECT count(*) FROM freshvec.lease WHERE space_id = ANY($1::int[])) AS leases,
         (SELECT count(*) FROM freshvec.lease WHERE space_id = ANY($1::int[]) AND token IS NULL) AS waiting,
         (SELECT count(*) FROM freshvec.range WHERE space_id = ANY($1::int[])) AS ranges`,
      [spaces.map(({ id }) => id)],
    );
    const now = left ? left.changes + left.leases + left.ranges : least;
    if (now >= least) return false;
    least = now;
    return true;
  };
  while (least > 0) {
    await eventually(less, { timeoutMs: 60_000, intervalMs: 50, what: 'less to do' }).catch(async (error: unknown) => {
      const held = await db.query('SELECT *, clock_timestamp() AS now FROM freshvec.lease LIMIT 5');
      throw new Error(`not quiet: ${JSON.stringify({ ...left, held })}`, { cause: error });
    });
  }
}
