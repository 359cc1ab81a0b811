import type { PlanFact, ReembedPlan } from '../../../reembed/definition.js';
import type { MigrationStatus } from '../../../reembed/status.js';
import { adoptionText, describeStatements, verificationLines } from '../../plan.js';
import { count } from '../../table.js';

/** What a move will do, for a person to read before saying yes. */
export function describeReembed(plan: ReembedPlan): string {
  const { source, from, to, copies, cost } = plan;
  const money =
    cost === undefined
      ? 'price unknown'
      : cost === 0
        ? 'free'
        : `about $${cost < 0.01 ? cost.toPrecision(1) : cost.toFixed(2)}`;
  const about = plan.rowsEstimated ? 'about ' : '';
  const adopted = to.adoption === undefined ? '' : `${adoptionText(plan.adopts, plan.rowsEstimated)}, embeds `;
  const place = (space: typeof to) =>
    `${space.type}(${space.dimensions}) in ${space.store === 'column' ? `column ${space.column}` : "freshvec's own table"}, ${space.metric}`;
  return [
    describeStatements(plan.statements),
    `Re-embedding of "${source.name}"`,
    `  from     ${from.fingerprint}: ${place(from)}`,
    `  to       ${to.fingerprint}: ${place(to)}`,
    `  work     ${adopted}${about}${count(plan.rows - plan.adopts)} rows, ${copies ? 'vectors are copied: no provider is asked' : `about ${count(plan.tokens)} tokens, ${money}`}`,
    ...verificationLines(plan.verification),
    ...plan.facts.map((fact) => `  ${fact.name.padEnd(8)} ${factText(fact)}`),
    ...[...new Set(plan.statements.map(({ lock }) => lock))]
      .filter((lock) => lock !== 'none')
      .map((lock) => `  lock     ${lock}`),
    ...plan.notes.map((note) => `Note: ${note}`),
    ...plan.blockers.map((blocker) => `Cannot be done: ${blocker}`),
  ].join('\n');
}

function factText({ value, unit, note }: PlanFact): string {
  if (value === null) return `unknown: ${note}`;
  return `${typeof value === 'string' ? value : amount(value, unit)}${note === '' ? '' : ` (${note})`}`;
}

function amount(value: number, unit: PlanFact['unit']): string {
  switch (unit) {
    case 'bytes':
      return bytes(value);
    case 's':
      return seconds(value);
    case 'share':
      return `${Math.round(value * 100)} %`;
    case 'USD':
      return `$${value.toFixed(2)}`;
    default:
      return count(Math.round(value));
  }
}

export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let power = 0;
  let rest = value;
  for (; rest >= 1000 && power < units.length - 1; power++) rest /= 1000;
  return `${power === 0 ? rest : rest.toFixed(1)} ${units[power]}`;
}

export function seconds(value: number): string {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

/** One line: the state, and why it waits. */
export function oneLine({ state, paused, reason }: MigrationStatus): string {
  return `${state}${paused ? ', paused' : ''}${reason === null ? '' : `: ${reason}`}`;
}

/** How a move stands, for people. */
export function describeStatus(migration: MigrationStatus): string {
  const { rows, done, rate, etaSeconds, gates, throttle, readers } = migration;
  const pressed = throttle.filter(({ state }) => state !== 'fine');
  const next = NEXT[migration.state];
  return [
    `${migration.source}: ${oneLine(migration)}`,
    `  from     ${migration.from} (space ${migration.spaces.from})`,
    `  to       ${migration.to} (space ${migration.spaces.to})`,
    `  rows     ${count(done)} of about ${count(rows)}${rate === null ? '' : `, ${count(rate)} a second`}${etaSeconds ? `, ${seconds(etaSeconds)} left` : ''}`,
    ...(migration.state === 'backfilling' ? [`  pace     ${Math.round(migration.share * 100)} % of the time`] : []),
    ...pressed.map(
      ({ name, state, value, bound, unit, note }) =>
        `  slowed   ${name}: ${state === 'unknown' ? 'cannot be read' : `${value} ${unit}, bound ${bound}`}${note ? ` (${note})` : ''}`,
    ),
    ...gates.map(
      ({ name, passed, accepted, advisory, value, bound, note }) =>
        `  ${passed ? 'holds ' : advisory ? 'note  ' : accepted ? 'waived' : 'FAILS '}   ${name}: ${value ?? 'not measured'}${bound === null ? '' : `, wanted ${bound}`}${note ? ` (${note})` : ''}`,
    ),
    ...readers.map((reader) => `  reader   ${reader} still searches the old model`),
    ...(next === undefined || migration.paused ? [] : [`Next: ${next}`]),
  ].join('\n');
}

const NEXT: Readonly<Partial<Record<MigrationStatus['state'], string>>> = {
  ready: '`freshvec reembed cutover` answers searches with the new model',
  soaking: '`freshvec reembed rollback` goes back, `complete` drops the old vectors',
  rolled_back: '`freshvec reembed cutover` switches again, `abort` drops the new vectors',
  parked: 'mend what is said above, then `freshvec reembed resume`; or `abort`',
};
