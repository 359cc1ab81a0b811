import { RESERVED_PREFIX } from '../catalog/expressions.js';
import type { Content } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { VectorExtension } from '../db/database.js';
import { ident, MAX_IDENTIFIER_BYTES, qualified } from '../db/identifiers.js';
import type { ExpressionFacts } from './base-columns.js';
import { didYouMean } from './errors.js';
import type { Table } from './table.js';

/** Each function names what cannot work, and what to do about it. Nothing in here changes or reads anything. */

const KINDS: Readonly<Record<string, string>> = {
  v: 'it is a view: writes to the tables below it would go unseen. Add the table that holds the text.',
  m: 'it is a materialized view: it has no triggers. Add the table that holds the text.',
  f: 'it is a foreign table: its rows change elsewhere, unseen. Add the source where the table is.',
  S: 'it is a sequence.',
  i: 'it is an index.',
  I: 'it is an index.',
  c: 'it is a composite type.',
};

/** Why freshvec cannot work on a relation of this kind, whatever is asked of it. */
export function relationRefusals(table: Table): string[] {
  if (table.system) return ['it belongs to PostgreSQL or to freshvec itself.'];
  const kind = KINDS[table.kind];
  if (kind !== undefined) return [kind];
  const name = `${table.schema}.${table.table}`;
  const reserved = table.columns.filter((column) => column.name.startsWith(RESERVED_PREFIX));
  return [
    ...reserved.map(
      (column) => `its column "${column.name}" begins with ${RESERVED_PREFIX}, which freshvec needs. Rename it.`,
    ),
    ...(table.temporary ? ['it is a temporary table: no worker can see it. Make it a permanent one.'] : []),
    ...(table.partitionOf === null
      ? []
      : [`it is a partition: add ${table.partitionOf}, which takes all partitions in.`]),
    ...(table.inherits
      ? [
          'it takes part in plain inheritance, where writes pass by the triggers of the table that they name. Use declarative partitioning.',
        ]
      : []),
    ...(table.foreignPartitions
      ? ['one of its partitions is a foreign table, whose rows cannot be locked. Detach it.']
      : []),
    ...(table.owned
      ? []
      : [
          `the role ${table.role} does not own it and so cannot add triggers: run this as ${table.owner}, or GRANT ${table.owner} TO ${table.role}.`,
        ]),
    ...(table.rowSecurity
      ? [
          `row-level security hides rows of it from the role ${table.role}, which would never be embedded: run freshvec as a role ` +
            `with BYPASSRLS (ALTER ROLE ${table.role} BYPASSRLS), or as the owner without FORCE (ALTER TABLE ${name} NO FORCE ROW LEVEL SECURITY).`,
        ]
      : []),
  ];
}

/** Columns that are not there, and expressions that are no good. */
export function expressionRefusals(
  table: Table,
  content: Content,
  tenant: string | undefined,
  facts: ExpressionFacts,
): string[] {
  const names = table.columns.map((column) => column.name);
  const missing = (what: string, name: string) =>
    names.includes(name)
      ? []
      : [`its ${what} names the column "${name}", which it does not have.${didYouMean(name, names)}`];
  const blank = 'columns' in content ? content.columns.length === 0 : content.sql.trim() === '';
  return [
    ...(blank ? ['no content is given: name the columns whose text is to be embedded.'] : []),
    ...('columns' in content ? content.columns.flatMap((name) => missing('content', name)) : []),
    ...(tenant === undefined ? [] : missing('tenant', tenant)),
    ...facts.refusals,
  ];
}

/** Content or filter that reads what freshvec itself writes would never come to rest. */
export function ownColumnRefusals(facts: ExpressionFacts, own: readonly string[], onRows: boolean): string[] {
  const read = facts.columns.filter((name) => own.includes(name));
  return [
    ...(facts.wholeRow && onRows
      ? [
          'its content or filter reads the row as a whole, and with it the vector: name columns, or use `--store table`.',
        ]
      : []),
    ...read.map(
      (name) => `its content or filter reads the column "${name}", which freshvec writes: it would never come to rest.`,
    ),
  ];
}

const INDEX_LIMITS = { vector: 2000, halfvec: 4000 } as const;
const MAX_DIMENSIONS = 16_000;

export function spaceRefusals(space: Space, table: Table): string[] {
  const { dimensions, type, index } = space;
  const limit = INDEX_LIMITS[type];
  const whole = (value: number, least: number, most: number) =>
    Number.isInteger(value) && value >= least && value <= most;
  const smaller = dimensions <= INDEX_LIMITS.halfvec && type === 'vector' ? '`--type halfvec`, ' : '';
  return [
    ...(whole(dimensions, 1, MAX_DIMENSIONS)
      ? []
      : [`a vector has 1 to ${MAX_DIMENSIONS} dimensions, not ${dimensions}.`]),
    ...(index.kind === 'hnsw' && dimensions > limit
      ? [
          `an index over ${type} takes at most ${limit} dimensions, and the model has ${dimensions}: use ${smaller}a model with fewer dimensions, or \`--index none\`.`,
        ]
      : []),
    ...(whole(index.m, 2, 100) ? [] : [`m must be a whole number from 2 to 100, not ${index.m}.`]),
    ...(whole(index.efConstruction, 4, 1000) && index.efConstruction >= 2 * index.m
      ? []
      : [`ef_construction must be a whole number from 4 to 1000 and at least 2 × m, not ${index.efConstruction}.`]),
    ...(index.kind === 'hnsw' && space.store === 'column' && !table.mayCreateInSchema
      ? [
          `the role ${table.role} may not create an index in its schema: GRANT CREATE ON SCHEMA ${table.schema} TO ${table.role}.`,
        ]
      : []),
  ];
}

/** Column mode: the columns of a space, and the flag where it makes it, by what they must be. */
export function companionTypes(space: Space, flag?: string): { name: string; type: string }[] {
  return [
    { name: space.column, type: `${space.type}(${space.dimensions})` },
    { name: `${space.column}_model`, type: 'text' },
    { name: `${space.column}_hash`, type: 'uuid' },
    ...(flag === undefined ? [] : [{ name: flag, type: 'boolean' }]),
  ];
}

/** Column mode: names that are too long, taken by something else, or published to subscribers that lack them. */
export function columnRefusals(space: Space, table: Table, publications: readonly string[], flag?: string): string[] {
  const wanted = companionTypes(space, flag);
  const tooLong = Buffer.byteLength(`${space.column}_stale`) > MAX_IDENTIFIER_BYTES || space.column === '';
  const taken = wanted.flatMap(({ name, type }) => {
    // What an adopted column must be says `adoption.ts`.
    if (space.adoption !== undefined && name === space.column) return [];
    const column = table.columns.find((candidate) => candidate.name === name);
    if (!column) return [];
    const isFlag = type === 'boolean';
    const fits = withoutSchema(column.type) === type && column.generated === 'no';
    if (fits && (!isFlag || (column.notNull && column.hasDefault))) return [];
    const found = fits ? `${column.type} without NOT NULL DEFAULT true` : column.type;
    return [
      `its column "${name}" is taken: it is ${found} and would have to be ${type}. Choose another with \`--column NAME\`.`,
    ];
  });
  return [
    ...(tooLong
      ? [
          `the column name "${space.column}" does not fit: with "_stale" behind it, it may have ${MAX_IDENTIFIER_BYTES} bytes. Choose a shorter one with \`--column NAME\`.`,
        ]
      : []),
    ...taken,
    ...(publications.length > 0
      ? [
          `the publication ${publications.join(', ')} sends all its columns: subscribers that lack the new ones would stop. ` +
            'Use `--store table`, or publish it with a column list.',
        ]
      : []),
  ];
}

/**
 * A space beside the live one makes its columns, and takes none up: those of these names that would do are somebody's, or
 * what a source that was removed has kept. A migration would not begin. `own`: columns of sources that are there.
 */
export function standingRefusals(space: Space, table: Table, own: ReadonlySet<string>): string[] {
  if (space.store !== 'column') return [];
  const standing = companionTypes(space)
    .filter(({ name }) => space.adoption === undefined || name !== space.column)
    .filter(({ name, type }) =>
      table.columns.some((column) => column.name === name && withoutSchema(column.type) === type && !own.has(name)),
    )
    .map(({ name }) => name);
  if (standing.length === 0) return [];
  const drops = `ALTER TABLE ${qualified(table.schema, table.table)} ${standing.map((name) => `DROP COLUMN ${ident(name)}`).join(', ')}`;
  const mend =
    space.adoption === undefined
      ? `choose another with \`--column NAME\`, or, if nobody needs them, ${drops}`
      : `if its vectors are those of the text that each row has now, ${drops}, and they are taken over`;
  return [`it has the columns ${standing.join(', ')} already, which the move would make: ${mend}.`];
}

function withoutSchema(type: string): string {
  return type.slice(type.lastIndexOf('.') + 1);
}

const OLDEST_PGVECTOR = [0, 8, 0] as const;
export const ADVISED_PGVECTOR = [0, 8, 4] as const;

export function vectorExtensionRefusals(extension: VectorExtension | undefined): string[] {
  if (extension === undefined) {
    return [
      'the extension pgvector is not in this database: install it on the server and run CREATE EXTENSION vector.',
    ];
  }
  return isOlder(extension.version, OLDEST_PGVECTOR)
    ? [
        `pgvector ${extension.version} is too old: install ${OLDEST_PGVECTOR.join('.')} or later and run ALTER EXTENSION vector UPDATE.`,
      ]
    : [];
}

export function isOlder(version: string, than: readonly number[]): boolean {
  const parts = version.split('.').map(Number);
  const differs = than.findIndex((part, i) => (parts[i] ?? 0) !== part);
  return differs >= 0 && (parts[differs] ?? 0) < (than[differs] ?? 0);
}
