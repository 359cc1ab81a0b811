import type { LabelledQuery } from '../catalog/migration.js';
import { latestMigration } from '../catalog/migration.js';
import { getSource } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import { type CompareCost, type Comparison, compareModels, estimateComparison } from '../reembed/compare.js';
import { MigrationMissing, MigrationRefused } from '../reembed/errors.js';
import { evaluate } from '../reembed/eval/evaluate.js';
import { refuseTenants } from '../reembed/eval/queries.js';
import type { EvalReport } from '../reembed/eval/report.js';
import type { Connection } from './connection.js';
import { budgetSettings } from './connection.js';

export interface EvaluateOptions {
  /** In place of those that the migration was started with. */
  readonly queries?: readonly LabelledQuery[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ComparisonRequest {
  /** Two or more specs; the first is what the others are compared with. */
  readonly models: readonly string[];
  /** Without them, queries are derived from the sample. */
  readonly queries?: readonly LabelledQuery[] | undefined;
  /** Rows that are embedded with each model; 500 unless told. */
  readonly sampleRows?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const SAMPLE_ROWS = 500;

/** Measures both spaces of the source's migration. Changes nothing; embeds a few rows and the queries, which may cost. */
export async function evaluateMigration(
  connection: Connection,
  sourceName: string,
  { queries, signal = new AbortController().signal }: EvaluateOptions = {},
): Promise<EvalReport> {
  const db = await connection.ready();
  const source = await getSource(db, sourceName);
  refuseTenants(source, queries ?? []);
  const migration = await latestMigration(db, source.id);
  if (!migration) throw new MigrationMissing(sourceName);
  const [from, to] = [await getSpace(db, migration.fromSpaceId), await getSpace(db, migration.toSpaceId)];
  if (!from || !to || from.state === 'dropped' || to.state === 'dropped') {
    const why = to && to.state !== 'dropped' ? 'the old space is gone' : 'the new space is not there';
    throw new MigrationRefused(sourceName, 'eval', migration.state, `${why}: there is nothing to compare`);
  }
  return evaluate({
    db,
    source,
    models: connection.models,
    budget: await connection.gates(),
    signal,
    migration: queries ? { ...migration, queries } : migration,
    from,
    to,
    settings: connection.config.reembed.gates,
  });
}

/** What comparing would send to each model. */
export async function comparisonCost(
  connection: Connection,
  sourceName: string,
  request: ComparisonRequest,
): Promise<CompareCost[]> {
  return estimateComparison(await contextOf(connection, sourceName, request.signal), optionsOf(request));
}

/** Embeds a sample with each model, in memory, and says which finds more. */
export async function compare(
  connection: Connection,
  sourceName: string,
  request: ComparisonRequest,
): Promise<Comparison> {
  return compareModels(await contextOf(connection, sourceName, request.signal), optionsOf(request));
}

function optionsOf({ models, queries, sampleRows = SAMPLE_ROWS }: ComparisonRequest) {
  return { models, queries, sampleRows };
}

async function contextOf(connection: Connection, sourceName: string, signal = new AbortController().signal) {
  const db = await connection.ready();
  return {
    db,
    source: await getSource(db, sourceName),
    models: connection.models,
    budget: await connection.gates(),
    prices: budgetSettings(connection.config),
    signal,
  };
}
