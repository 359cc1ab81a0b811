import { accountOf } from '../budget/gates.js';
import { getSource } from '../catalog/source.js';
import { liveSpace } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import type { CompareCost, Comparison } from '../reembed/compare.js';
import * as control from '../reembed/control.js';
import type { ReembedDefinition, ReembedPlan, StartOptions } from '../reembed/definition.js';
import type { EvalReport } from '../reembed/eval/report.js';
import { planReembed } from '../reembed/plan.js';
import { startReembed } from '../reembed/start.js';
import { type MigrationStatus, migrationStatus } from '../reembed/status.js';
import type { Connection } from './connection.js';
import { embedText } from './embed.js';
import { planModel } from './plan-model.js';
import {
  type ComparisonRequest,
  compare,
  comparisonCost,
  type EvaluateOptions,
  evaluateMigration,
} from './reembed-measure.js';
import { verifyPlan } from './verify.js';

export interface ReembedStartOptions extends StartOptions {
  /** False takes the vectors of an adopted column over unseen. */
  readonly verify?: boolean | undefined;
}

/** Moves of a source from one model, type, metric or store to another, with searches going on. */
export interface ReembedApi {
  /** What it would do, and what would make it fail; changes nothing. */
  plan(source: string, definition: ReembedDefinition): Promise<ReembedPlan>;
  /**
   * Does what a plan says, after one tiny paid call that shows whether key and dimensions are right, and, where it adopts a
   * column, after a look whether the model made its vectors; workers with the
   * role `reembed` carry it out. Throws ReembedRefused, MigrationRefused.
   */
  start(plan: ReembedPlan, options?: ReembedStartOptions): Promise<MigrationStatus>;
  /** Throws MigrationMissing where the source was never re-embedded. */
  status(source: string): Promise<MigrationStatus>;
  /** Rests the backfill and all further steps; edits go on being embedded for both spaces. */
  pause(source: string): Promise<MigrationStatus>;
  /**
   * Goes on after `pause`, `until` or parking; what the source or a provider rests for is ended by `client.resume`.
   * `spendCap`: what the new vectors may cost in all until the switch, in dollars, in place of what `start` said.
   */
  resume(source: string, options?: { readonly spendCap?: number | undefined }): Promise<MigrationStatus>;
  /** Lets gates pass that do not hold. Throws MigrationRefused for those without which rows would be missing. */
  accept(source: string, gates: readonly string[]): Promise<MigrationStatus>;
  /**
   * Searches are answered from the new space from here on; the old one is kept fresh. `rename`: old and new columns
   * exchange their names in the same transaction, for SQL of the app's own. It is atomic in the database, but not with
   * a process that embeds queries itself: such a query may meet the other model's vectors for a moment. `search` cannot.
   */
  cutover(source: string, options?: { readonly rename?: boolean }): Promise<MigrationStatus>;
  /** Searches are answered from the old space again; nothing was lost. */
  rollback(source: string): Promise<MigrationStatus>;
  /** Drops the old space, for good. Refused while a process still searches it. */
  complete(source: string): Promise<MigrationStatus>;
  /** Gives the new space up and drops it. */
  abort(source: string): Promise<MigrationStatus>;
  /** Measures both spaces: the gates and more. Changes nothing; embeds a few rows and the queries, which may cost. */
  evaluate(source: string, options?: EvaluateOptions): Promise<EvalReport>;
  /** What `compare` would send to each model, and what that costs. */
  comparisonCost(source: string, request: ComparisonRequest): Promise<CompareCost[]>;
  /** Embeds a sample of the rows with each model, in memory, and says which finds more, how fast and for how much. */
  compare(source: string, request: ComparisonRequest): Promise<Comparison>;
}

export function reembedApi(connection: () => Promise<Connection>): ReembedApi {
  const ready = async () => (await connection()).ready();
  const then =
    <Rest extends unknown[]>(act: (db: Database, source: string, ...rest: Rest) => Promise<unknown>) =>
    async (source: string, ...rest: Rest) => {
      const db = await ready();
      await act(db, source, ...rest);
      return migrationStatus(db, source);
    };
  return {
    async plan(source, definition) {
      const { models, config } = await connection();
      const db = await ready();
      const spec = definition.model ?? (await liveSpec(db, source));
      const model = await models.get(spec);
      return planReembed(db, source, definition, planModel(model, config), {
        account: accountOf(model),
        embedLimits: model.limits,
        batchKeys: config.worker.batchKeys,
        budget: config.budget,
        spendPerDay: config.spend.perDay,
        // Only where it costs nothing and asks nobody.
        embed:
          model.account === undefined && !spec.startsWith('ai/')
            ? (texts) => model.embed(texts, { purpose: 'document' })
            : undefined,
        throttle: config.throttle,
        index: config.reembed.index,
        failedShare: config.reembed.gates.failedShare,
      });
    },
    async start(plan, { verify = true, ...options } = {}) {
      const db = await ready();
      if (plan.blockers.length === 0 && !plan.copies) {
        const to = { source: plan.source.name, purpose: 'probe' } as const;
        await embedText(await connection(), plan.to.spec, 'freshvec', { purpose: 'document', to });
      }
      if (plan.blockers.length === 0 && verify) {
        await verifyPlan(await connection(), { source: plan.source, space: plan.to });
      }
      await startReembed(db, plan, options);
      return migrationStatus(db, plan.source.name);
    },
    status: async (source) => migrationStatus(await ready(), source),
    pause: then(control.pauseMigration),
    resume: then(control.resumeMigration),
    accept: then(control.acceptGates),
    cutover: then(control.cutover),
    rollback: then(control.rollback),
    complete: then(control.complete),
    abort: then(control.abort),
    evaluate: async (source, options) => evaluateMigration(await connection(), source, options),
    comparisonCost: async (source, request) => comparisonCost(await connection(), source, request),
    compare: async (source, request) => compare(await connection(), source, request),
  };
}

async function liveSpec(db: Database, sourceName: string): Promise<string> {
  const live = await liveSpace(db, (await getSource(db, sourceName)).id);
  if (live) return live.space.spec;
  throw new FreshvecError('source_without_space', `"${sourceName}" has no live space.`);
}
