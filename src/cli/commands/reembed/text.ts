import type { PlanFact, PlanFactName, ReembedPlan } from '../../../reembed/definition.js';
import { shown } from '../../../reembed/eval/text.js';
import { isThrottled, type MigrationStatus } from '../../../reembed/status.js';
import { throttleReasons } from '../../../reembed/throttle/describe.js';
import { adoptionText, describeStatements, longTextsText, verificationText } from '../../plan.js';
import { count } from '../../table.js';

const LABELS: Readonly<Record<PlanFactName, string>> = {
  seconds: 'time',
  providerSeconds: '  provider',
  writeSeconds: '  writes',
  buildSeconds: '  index',
  diskBytes: 'vectors',
  deadBytes: 'dead rows',
  indexBytes: 'index',
  peakBytes: 'disk in all',
  freeBytes: 'disk free',
  graphBytes: 'index memory',
  buildWorkers: 'workers',
  walRowBytes: 'WAL per row',
  walBytes: 'WAL in all',
  hotShare: 'HOT updates',
  fillfactor: 'fillfactor',
  backfillHotShare: 'HOT backfill',
  locks: 'locks',
  partitions: 'partitions',
  triggers: 'triggers',
  replicas: 'replicas',
  pgvector: 'pgvector',
};
const LABEL_WIDTH = Math.max(...Object.values(LABELS).map((label) => label.length));
const VALUE_WIDTH = 9;

/** What a move will do, for a person to read before saying yes: the SQL first, what it means last. */
export function describeReembed(plan: ReembedPlan): string {
  const { source, from, to, copies, cost } = plan;
  const money =
    cost === undefined
      ? 'price unknown'
      : cost === 0
        ? 'free'
        : `about $${cost < 0.01 ? cost.toPrecision(1) : cost.toFixed(2)}`;
  const about = plan.rowsEstimated ? 'about ' : '';
  const long = longTextsText(plan);
  const adopted = to.adoption === undefined ? '' : `${adoptionText(plan.adopts, plan.rowsEstimated)}, embeds `;
  const place = (space: typeof to) =>
    `${space.type}(${space.dimensions}) in ${space.store === 'column' ? `column ${space.column}` : "freshvec's own table"}, ${space.metric}`;
  const line = (label: string, text: string) => `  ${label.padEnd(LABEL_WIDTH)}  ${text}`;
  return [
    ...(plan.statements.length > 0 ? ['-- Expanding, in one transaction:', describeStatements(plan.statements)] : []),
    ...(plan.later.length > 0 ? ['-- Later, in this order:', describeStatements(plan.later)] : []),
    `Re-embedding of "${source.name}"`,
    line('from', `${from.fingerprint}: ${place(from)}`),
    line('to', `${to.fingerprint}: ${place(to)}`),
    line(
      'work',
      `${adopted}${about}${count(plan.rows - plan.adopts)} rows, ${copies ? 'vectors are copied: no provider is asked' : `about ${count(plan.tokens)} tokens, ${money}`}`,
    ),
    ...(long === undefined ? [] : [line('long texts', long)]),
    ...(plan.verification === undefined ? [] : [line('verify', verificationText(plan.verification))]),
    ...plan.facts.flatMap((fact) => factLines(fact, line)),
    ...plan.notes.map((note) => `Note: ${note}`),
    ...plan.blockers.map((blocker) => `Cannot be done: ${blocker}`),
    ...(plan.blockers.length === 0 ? ['Nothing stands in its way.'] : []),
  ].join('\n');
}

/** One line; a text of several parts, one for each. */
function factLines({ name, value, unit, note }: PlanFact, line: (label: string, text: string) => string): string[] {
  const label = LABELS[name];
  if (typeof value === 'string') {
    const told = note === '' ? value : `${value} (${note})`;
    return told.split('; ').map((part, i) => line(i === 0 ? label : '', part));
  }
  const shown = (value === null ? 'unknown' : amount(value, unit)).padStart(VALUE_WIDTH);
  return [line(label, note === '' ? shown : `${shown}  ${note}`)];
}

function amount(value: number, unit: PlanFact['unit']): string {
  switch (unit) {
    case 'bytes':
      return bytes(value);
    case 's':
      return seconds(value);
    case 'share':
      return `${Math.round(value * 100)} %`;
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
  if (value > 0 && value < 1) return 'under 1 s';
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

/** One line: the state, and why it waits. */
export function oneLine({ state, paused, reason }: MigrationStatus): string {
  return `${state}${paused ? ', paused' : ''}${reason === null ? '' : `: ${reason}`}`;
}

/** How fast a backfill goes, how long it takes still, and what slows it. */
export function paceOf(migration: MigrationStatus): string {
  const { rate, etaSeconds, share } = migration;
  const signals = slowedBy(migration);
  return [
    ...(rate === null ? [] : [`${count(rate)} a second`]),
    ...(etaSeconds === null ? [] : [`${seconds(etaSeconds)} left`]),
    `at work ${Math.round(share * 100)} % of the time`,
    ...(signals.length === 0 ? [] : [`slowed by ${signals.join(', ')}`]),
  ].join(', ');
}

/** Names of the signals that slow a backfill. */
export function slowedBy({ throttle }: MigrationStatus): string[] {
  return throttle.filter(({ state }) => state !== 'fine').map(({ name }) => name);
}

/** How a move stands, for people. */
export function describeStatus(migration: MigrationStatus): string {
  const { rows, done, rate, etaSeconds, gates, throttle, readers, spend } = migration;
  const next = NEXT[migration.state];
  return [
    `${migration.source}: ${oneLine(migration)}`,
    `  from     ${migration.from} (space ${migration.spaces.from})`,
    `  to       ${migration.to} (space ${migration.spaces.to})`,
    `  rows     ${count(done)} of about ${count(rows)}${rate === null ? '' : `, ${count(rate)} a second`}${etaSeconds ? `, ${seconds(etaSeconds)} left` : ''}`,
    ...(isThrottled(migration) ? [`  pace     ${Math.round(migration.share * 100)} % of the time`] : []),
    ...throttleReasons(throttle).map((reason) => `  slowed   ${reason}`),
    ...(spend.usd > 0 || spend.capUsd !== null
      ? [`  spent    $${spend.usd.toFixed(2)}${spend.capUsd === null ? '' : ` of $${spend.capUsd.toFixed(2)}`}`]
      : []),
    ...gates.map(
      ({ name, passed, accepted, advisory, value, bound, note }) =>
        `  ${passed ? 'holds ' : advisory ? 'note  ' : accepted ? 'waived' : 'FAILS '}   ${name}: ${value === null ? 'not measured' : shown(value)}${bound === null ? '' : `, wanted ${shown(bound)}`}${note ? ` (${note})` : ''}`,
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
