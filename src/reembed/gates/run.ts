import { FreshvecError } from '../../db/errors.js';
import { EmbedError } from '../../embed/port.js';
import { type LabelledScores, scoreLabelled } from '../eval/labelled.js';
import type { Gate, GateContext } from './context.js';
import { coverageGate, readCoverage } from './coverage.js';
import { failuresGate } from './failures.js';
import { indexUse } from './index-use.js';
import { labelledGate } from './labelled.js';
import { type Overlap, overlapGate, readOverlaps } from './overlap.js';
import { pendingGate } from './pending.js';
import { recallGate } from './recall.js';
import { recomputedGate } from './recomputed.js';

/** The gates, and what they were made of, for a report. */
export interface Measured {
  readonly gates: Gate[];
  readonly rows: number;
  readonly overlaps: readonly Overlap[];
  /** Undefined where no queries were given, or they could not be asked. */
  readonly labelled: LabelledScores | undefined;
  /** Whether the new space's index can answer. */
  readonly indexed: boolean;
}

/**
 * Measures everything that must hold before searches are switched. While edits wait too long, only that is said: the rest
 * reads the whole table, and the workers have enough to do. What costs nothing comes next; while that does not hold,
 * nothing is paid for, and the gates that would are there for information only. No transaction is open while a model is
 * asked.
 *
 * A provider that does not answer fails its gate with the reason; the signal's reason and errors of the database throw.
 */
export async function runGates(context: GateContext): Promise<Gate[]> {
  const pending = await pendingGate(context);
  if (!pending.passed && !context.migration.accepted.includes(pending.name)) {
    return [{ ...pending, note: `${pending.note}; the other gates are measured once this one holds` }];
  }
  return (await measureGates(context, { payAnyway: false })).gates;
}

/** With `payAnyway`, for a report, all of them, whatever holds. */
export async function measureGates(context: GateContext, { payAnyway }: { payAnyway: boolean }): Promise<Measured> {
  const { signal, migration } = context;
  signal.throwIfAborted();
  const coverage = await readCoverage(context);
  const index = await indexUse(context);
  const overlaps = await readOverlaps(context);
  const free = [
    coverageGate(coverage),
    await pendingGate(context),
    await failuresGate(context, coverage),
    index.gate,
    await recallGate(context, index),
  ];
  const missed = free.filter(({ passed, advisory }) => !passed && !advisory).map(({ name }) => name);
  const pays = payAnyway || missed.every((name) => migration.accepted.includes(name));
  const paid = (name: string, measure: () => Promise<Gate>) =>
    pays ? asking(name, signal, measure) : Promise.resolve(waiting(name, missed));
  let labelled: LabelledScores | undefined;
  const recomputed = await paid('recomputed', () => recomputedGate(context));
  const gates = [...free, recomputed, overlapGate(overlaps)];
  if (migration.queries.length > 0) {
    const gate = await paid('labelled', async () => {
      labelled = await scoreLabelled(context);
      return labelledGate(labelled, context);
    });
    gates.push(gate);
  }
  return { gates, rows: coverage.rows, overlaps, labelled, indexed: index.answers };
}

/** It need not hold anything back: those that were missed do. */
function waiting(name: string, missed: readonly string[]): Gate {
  const note = `not measured yet: first ${missed.join(' and ')} must hold`;
  return { name, passed: false, value: null, bound: null, advisory: true, note };
}

async function asking(name: string, signal: AbortSignal, measure: () => Promise<Gate>): Promise<Gate> {
  try {
    return await measure();
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof EmbedError) && !(error instanceof FreshvecError && error.code.startsWith('model_')))
      throw error;
    return { name, passed: false, value: null, bound: null, note: `could not be measured: ${error.message}` };
  }
}
