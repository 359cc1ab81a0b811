import { latestMigration } from '../catalog/migration.js';
import type { Database } from '../db/database.js';
import { type PlanModel, type PlannedSpace, planSpace } from '../source/index.js';
import type { ReembedDefinition, ReembedPlan } from './definition.js';
import { expandStatements } from './operations/expand.js';

/** Finds out all that moving a source to another space will do. Changes nothing. */
export async function planReembed(
  db: Database,
  sourceName: string,
  definition: ReembedDefinition,
  model: PlanModel,
): Promise<ReembedPlan> {
  const planned = await planSpace(db, sourceName, definition, model);
  const { source, from, space, amount, refusals } = planned;
  const copies = from.fingerprint === space.fingerprint;
  const open = await latestMigration(db, source.id);
  const busy = open && open.state !== 'done' && open.state !== 'aborted' ? open : undefined;
  return {
    source,
    from,
    to: space,
    rows: amount.rows,
    rowsEstimated: amount.estimated,
    tokens: copies ? 0 : amount.tokens,
    cost: copies ? 0 : costOf(model, amount.tokens),
    copies,
    facts: [],
    blockers: [
      ...refusals,
      ...(busy
        ? [
            `it is being re-embedded already, to ${busy.target.fingerprint} (${busy.state}): \`complete\` or \`abort\` that first.`,
          ]
        : []),
    ],
    notes: notesOf(planned),
    statements: refusals.length > 0 ? [] : await expandStatements(db, source, space),
  };
}

function costOf(model: PlanModel, tokens: number): number | undefined {
  if (/^(static|fake|onnx)\//.test(model.spec)) return 0;
  return model.pricePerMillionTokens === undefined ? undefined : (tokens / 1e6) * model.pricePerMillionTokens;
}

function notesOf({ from, space, hazards }: PlannedSpace): string[] {
  const when = [
    ...(space.store === 'column' ? ['at the start, when its columns come'] : []),
    ...(from.store === 'column' ? ['at the end, when the old ones go'] : []),
  ];
  return [
    ...(when.length > 0
      ? [
          `Prepared statements with SELECT * or RETURNING * fail ("cached plan must not change result type") ${when.join(', and ')}: ` +
            `each until its connection prepares it again, or is made anew.${space.store === 'column' ? ' `--store table` adds no column.' : ''}`,
        ]
      : []),
    ...(space.store === 'column' && hazards.updateTriggers.length > 0
      ? [`The backfill updates every row, and fires the table's own triggers: ${hazards.updateTriggers.join(', ')}.`]
      : []),
  ];
}
