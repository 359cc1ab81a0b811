import { hasEnded, latestMigration } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { adoptionNotes, type PlanModel, planSpace, verificationOf } from '../source/index.js';
import { listVectorIndexes } from '../store/build-index.js';
import type { PlanFactName, PlanSettings, ReembedDefinition, ReembedPlan } from './definition.js';
import { expandStatements } from './operations/expand.js';
import type { Measurement, PlanContext } from './plan/context.js';
import { measureDisk } from './plan/disk.js';
import { measureFailures } from './plan/failures.js';
import { measureHot } from './plan/hot.js';
import { laterStatements } from './plan/later.js';
import { measureLocks } from './plan/locks.js';
import { measureMemory } from './plan/memory.js';
import { measureServer } from './plan/server.js';
import { sizeSpace } from './plan/sizes.js';
import { readTableFacts } from './plan/table-facts.js';
import { measureTime } from './plan/time.js';
import { measureWal } from './plan/wal.js';

/** In the order in which a person wants to read what they find. */
const MEASUREMENTS: readonly Measurement[] = [
  measureTime,
  measureDisk,
  measureMemory,
  measureWal,
  measureHot,
  measureLocks,
  measureServer,
  measureFailures,
];

/**
 * Finds out all that moving a source to another space will do, and what would make it fail. Changes nothing, and takes
 * no lock that a write waits for.
 */
export async function planReembed(
  db: Database,
  sourceName: string,
  definition: ReembedDefinition,
  model: PlanModel,
  settings: PlanSettings = {},
): Promise<ReembedPlan> {
  const planned = await planSpace(db, sourceName, definition, model);
  const { source, from, space, amount, refusals, hazards } = planned;
  const copies = from.fingerprint === space.fingerprint;
  const tokens = copies ? 0 : amount.tokens;
  const cost = copies ? 0 : costOf(model, amount.tokens);
  const extension = await db.vectorExtension();
  const table = await readTableFacts(db, source);
  const { rows, adopts, longRows, fails, sent } = amount;
  const indexServes = await servesAlready(db, source, space);
  const sizes = sizeSpace({ source, from, to: space, rows, adopts, indexServes, table });
  const context: PlanContext = {
    ...{ db, source, from, to: space, rows, adopts, fails, longRows, tokens, sent, cost, copies },
    price: model.pricePerMillionTokens ?? 0,
    ...{ table, sizes, indexServes, hazards, extension, settings },
  };
  const found = [];
  for (const measure of MEASUREMENTS) found.push(await measure(context));
  const blockers = [
    ...refusals,
    ...(await alreadyMoving(db, source)),
    ...found.flatMap((findings) => findings.blockers ?? []),
  ];
  const shown: Space = { ...space, id: await nextSpaceId(db) };
  // What cannot be done may not even be put into words.
  const possible = refusals.length === 0 && extension !== undefined;
  const adoption = possible ? await adoptionNotes(db, source, space, amount) : [];
  return {
    ...{ source, from, to: space, rows, rowsEstimated: amount.estimated, tokens, cost, copies },
    ...{ adopts, failingRows: fails, longRows },
    ...(model.maxTokensPerInput === undefined ? {} : { maxTokensPerInput: model.maxTokensPerInput }),
    verification: verificationOf(model, amount),
    facts: found.flatMap((findings) => findings.facts ?? []),
    blockers,
    notes: [...adoption, ...notesOf(from, space), ...found.flatMap((findings) => findings.notes ?? [])],
    statements: possible ? await expandStatements(db, source, shown, extension.schema) : [],
    later: possible ? await laterStatements(context, shown, extension.schema) : [],
  };
}

/** What a plan found under a name: `factOf(plan, 'diskBytes')`; null where it is not known or does not apply. */
export function factOf(plan: Pick<ReembedPlan, 'facts'>, name: PlanFactName): number | string | null {
  return plan.facts.find((fact) => fact.name === name)?.value ?? null;
}

function costOf(model: PlanModel, tokens: number): number | undefined {
  if (/^(static|fake|onnx)\//.test(model.spec)) return 0;
  return model.pricePerMillionTokens === undefined ? undefined : (tokens / 1e6) * model.pricePerMillionTokens;
}

async function alreadyMoving(db: Executor, source: Source): Promise<string[]> {
  const open = await latestMigration(db, source.id);
  if (!open || hasEnded(open)) return [];
  return [
    `it is being re-embedded already, to ${open.target.fingerprint} (${open.state}): \`complete\` or \`abort\` that first.`,
  ];
}

/** A column that was there before may have an index that serves as well as one of ours. */
async function servesAlready(db: Executor, source: Source, space: Space): Promise<boolean> {
  if (space.adoption === undefined || space.index.kind === 'none') return false;
  return (await listVectorIndexes(db, source, space)).serving.length > 0;
}

/** The id that the space would get now, without taking it. */
async function nextSpaceId(db: Executor): Promise<number> {
  const [row] = await db.query<{ id: number }>(
    `SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('freshvec.space', 'id')::regclass), 0) + 1 AS id`,
  );
  if (!row) throw new TypeError('the sequence gave no row');
  return row.id;
}

function notesOf(from: Space, space: Space): string[] {
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
  ];
}
