import type { PlannedStatement, SourcePlan, Verification } from '../source/index.js';
import { count } from './table.js';

/** What adding a source will do, for a person to read before saying yes. */
export function describePlan(plan: SourcePlan): string {
  const { source, space, notes } = plan;
  const content = 'sql' in source.content ? source.content.sql : source.content.columns.join(', ');
  const { kind, m, efConstruction } = space.index;
  const long = longTextsText(plan);
  const where = space.store === 'column' ? `column ${space.column} of the table` : "freshvec's own table";
  return [
    describeStatements(plan.statements),
    `Source "${source.name}" on ${source.relation.schema}.${source.relation.table}`,
    `  content  ${content}${source.filter === undefined ? '' : ` WHERE ${source.filter}`}`,
    `  model    ${space.fingerprint}`,
    `  vectors  ${space.type}(${space.dimensions}) in ${where}, ${space.metric} distance`,
    `  index    ${kind === 'none' ? 'none: exact search' : `${kind}, m ${m}, ef_construction ${efConstruction}, built after the first pass`}`,
    `  work     ${amount(plan)}`,
    ...(long === undefined ? [] : [`  long     ${long}`]),
    ...(plan.verification === undefined ? [] : [`  verify   ${verificationText(plan.verification)}`]),
    ...[...new Set(plan.statements.map(({ lock }) => lock))]
      .filter((lock) => lock !== 'none')
      .map((lock) => `  lock     ${lock}`),
    ...notes.map((note) => `Note: ${note}`),
  ].join('\n');
}

export function describeStatements(statements: readonly PlannedStatement[]): string {
  return statements
    .map(({ sql, lock, why }) => `-- ${why}${lock === 'none' ? '' : ` (lock: ${lock})`}\n${sql};\n`)
    .join('\n');
}

function amount({ rows, rowsEstimated, adopts, tokens, cost, space }: SourcePlan): string {
  const about = rowsEstimated ? 'about ' : '';
  const money = cost === 0 ? `free (${space.spec} runs here)` : moneyText(cost);
  const work = `${about}${count(rows)} rows, about ${count(tokens)} tokens, ${money}`;
  return space.adoption === undefined ? work : `${adoptionText(adopts, rowsEstimated)}, embeds ${work}`;
}

/** `adopts 1,000 vectors unpaid` */
export function adoptionText(adopts: number, estimated: boolean): string {
  return `adopts ${estimated ? 'about ' : ''}${count(adopts)} vectors unpaid`;
}

/** What looking at a sample of adopted vectors takes. */
export function verificationText({ rows, tokens, cost }: Verification): string {
  const money = cost === 0 ? 'free' : moneyText(cost);
  return `embeds ${rows} of them first, to see whether this model made them: about ${count(tokens)} tokens, ${money}; \`--no-verify\` leaves that out`;
}

function moneyText(cost: number | undefined): string {
  return cost === undefined ? 'price unknown' : `about $${price(cost)}`;
}

const FATE = {
  refuse: 'get a failure row',
  truncate: 'are embedded by their beginning',
  chunk: 'are embedded in pieces',
};

/** Which texts are too long, what becomes of them, and of how many rows; undefined where the model takes any length. */
export function longTextsText({
  source,
  longRows,
  maxTokensPerInput,
}: Pick<SourcePlan, 'source' | 'longRows' | 'maxTokensPerInput'>): string | undefined {
  if (maxTokensPerInput === undefined) return undefined;
  const limit = `texts over ${count(maxTokensPerInput)} tokens ${FATE[source.longTexts]} (--long-texts ${source.longTexts})`;
  return `${limit}; ${longRows === 0 ? 'no row seen has one' : `about ${count(longRows)} rows have one`}`;
}

function price(cost: number): string {
  return cost < 0.01 ? cost.toPrecision(1) : cost.toFixed(2);
}
