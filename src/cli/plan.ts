import type { PlannedStatement, SourcePlan } from '../source/index.js';
import { count } from './table.js';

/** What adding a source will do, for a person to read before saying yes. */
export function describePlan(plan: SourcePlan): string {
  const { source, space, notes } = plan;
  const content = 'sql' in source.content ? source.content.sql : source.content.columns.join(', ');
  const { kind, m, efConstruction } = space.index;
  const where = space.store === 'column' ? `column ${space.column} of the table` : "freshvec's own table";
  return [
    describeStatements(plan.statements),
    `Source "${source.name}" on ${source.relation.schema}.${source.relation.table}`,
    `  content  ${content}${source.filter === undefined ? '' : ` WHERE ${source.filter}`}`,
    `  model    ${space.fingerprint}`,
    `  vectors  ${space.type}(${space.dimensions}) in ${where}, ${space.metric} distance`,
    `  index    ${kind === 'none' ? 'none: exact search' : `${kind}, m ${m}, ef_construction ${efConstruction}, built after the first pass`}`,
    `  work     ${amount(plan)}`,
    ...longTexts(plan),
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

function amount({ rows, rowsEstimated, tokens, cost, space }: SourcePlan): string {
  const about = rowsEstimated ? 'about ' : '';
  const money =
    cost === undefined ? 'price unknown' : cost === 0 ? `free (${space.spec} runs here)` : `about $${price(cost)}`;
  return `${about}${count(rows)} rows, about ${count(tokens)} tokens, ${money}`;
}

const FATE = {
  refuse: 'get a failure row',
  truncate: 'are embedded by their beginning',
  chunk: 'are embedded in pieces',
};

/** Where the model takes a text of any length there is nothing to say. */
function longTexts({ source, longRows, maxTokensPerInput }: SourcePlan): string[] {
  if (maxTokensPerInput === undefined) return [];
  const limit = `texts over ${count(maxTokensPerInput)} tokens ${FATE[source.longTexts]} (--long-texts ${source.longTexts})`;
  return [`  long     ${limit}; ${longRows === 0 ? 'no row seen has one' : `about ${count(longRows)} rows have one`}`];
}

function price(cost: number): string {
  return cost < 0.01 ? cost.toPrecision(1) : cost.toFixed(2);
}
