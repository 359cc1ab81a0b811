import { readCaptureTarget, readWatched } from '../capture/index.js';
import { DEFAULT_LONG_TEXTS, longTextsRefusal } from '../catalog/long-texts.js';
import { assertSchema } from '../catalog/schema.js';
import type { KeyColumn, Source } from '../catalog/source.js';
import type { Space, StoreKind } from '../catalog/space.js';
import type { Database, Executor, VectorExtension } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import { columnsOf } from '../store/column.js';
import { adoptedSql, adoptionNotes, adoptionRefusals, vectorTypeOf } from './adoption.js';
import { type ExpressionFacts, readExpressions } from './base-columns.js';
import {
  DEFAULT_COLUMN,
  DEFAULT_HNSW,
  type PlanModel,
  type SourceDefinition,
  type SourcePlan,
  type Verification,
} from './definition.js';
import { SourceRefused } from './errors.js';
import { type Estimate, estimate } from './estimate.js';
import { findSame, ownColumns } from './existing.js';
import { type Hazards, readHazards } from './hazards.js';
import { findKept } from './kept.js';
import { keyRefusals, ownTableRefusals, readKey } from './key.js';
import { notesFor } from './notes.js';
import {
  columnRefusals,
  companionTypes,
  expressionRefusals,
  ownColumnRefusals,
  relationRefusals,
  spaceRefusals,
  vectorExtensionRefusals,
} from './refuse.js';
import { addStatements } from './statements.js';
import { readTable, type Table } from './table.js';
import { SAMPLED_ROWS } from './verify-adoption.js';

/**
 * Finds out all that making a table a source will do, without changing anything but the counters of two ids.
 * Throws SourceRefused (`source_refused`) with every reason that it cannot work, `source_exists` when the name stands
 * for another source, and what `assertSchema` throws.
 */
export async function planSource(db: Database, definition: SourceDefinition, model: PlanModel): Promise<SourcePlan> {
  await assertSchema(db);
  const table = await readTable(db, definition.table);
  refuseIf(table, relationRefusals(table));
  const { wanted: read, facts, extension } = await readSource(db, table, definition);
  const hazards = await readHazards(db, table.oid, columnsOf({ column: definition.column ?? DEFAULT_COLUMN }));
  const proposedStore: StoreKind = hazards.updateTriggers.length + hazards.publications.length > 0 ? 'table' : 'column';
  const space = spaceOf(definition, model, table, definition.store ?? (definition.adopt ? 'column' : proposedStore));
  const wanted = { ...read, flagColumn: space.store === 'column' ? `${space.column}_stale` : undefined };
  const existing = await findSame(db, wanted, space, definition);
  if (!existing) refuseIf(table, await newSpaceRefusals(db, table, { space, flag: wanted.flagColumn }, facts, hazards));
  const adopted = space.adoption && !existing ? adoptedSql(table, space) : undefined;
  const amount = await estimateOrRefuse(db, table, wanted, model, adopted);
  const kept = existing ? undefined : await findKept(db, wanted, space);
  const final = existing ?? (await reserveIds(db, wanted, space, kept));
  const target = await readCaptureTarget(db, final.source, [final.space]);
  return {
    ...final,
    already: existing !== undefined,
    statements: existing ? [] : addStatements(target, final.space, extension.schema, kept !== undefined),
    rows: amount.rows - amount.adopts,
    adopts: amount.adopts,
    verification: verificationOf(model, amount),
    rowsEstimated: amount.estimated,
    tokens: amount.tokens,
    longRows: amount.longRows,
    ...(model.maxTokensPerInput === undefined ? {} : { maxTokensPerInput: model.maxTokensPerInput }),
    cost: costOf(model, amount.tokens),
    notes: [
      ...(existing ? [] : await adoptionNotes(db, final.source, final.space, amount)),
      ...notesFor(final.space, target, hazards, extension, {
        ...(await readSettings(db)),
        takesUp: kept !== undefined,
      }),
    ],
    proposedStore,
  };
}

/** The source as asked for, still without an id, and what its expressions read. */
async function readSource(
  db: Database,
  table: Table,
  definition: SourceDefinition,
): Promise<{ wanted: Source; facts: ExpressionFacts; extension: VectorExtension }> {
  const key = await readKey(db, table.oid);
  const facts = await readExpressions(db, table, definition.content, definition.where);
  const extension = await db.vectorExtension();
  const choice = longTextsRefusal(definition.longTexts ?? DEFAULT_LONG_TEXTS);
  const reasons = [
    ...(choice ? [choice] : []),
    ...keyRefusals(key),
    ...expressionRefusals(table, definition.content, definition.tenant, facts),
    ...vectorExtensionRefusals(extension),
  ];
  if (reasons.length > 0 || !extension) throw new SourceRefused(nameOf(table), reasons);
  const read = facts.wholeRow ? table.columns.map((column) => column.name) : facts.columns;
  const baseColumns = (await readWatched(db, table.oid, read)).map((column) => column.name);
  return { wanted: sourceOf(definition, table, key, baseColumns), facts, extension };
}

/** Why a space cannot be made on this table. `flag`: the flag's column, where it is to be made too. */
export async function newSpaceRefusals(
  db: Executor,
  table: Table,
  { space, flag }: { space: Space; flag: string | undefined },
  facts: ExpressionFacts,
  hazards: Hazards,
): Promise<string[]> {
  const onRows = space.store === 'column';
  const others = await ownColumns(db, table.oid);
  const mine = onRows ? companionTypes(space, flag).map((column) => column.name) : [];
  const taken = others.find(({ column }) => mine.includes(column));
  return [
    ...ownColumnRefusals(facts, [...new Set([...others.map(({ column }) => column), ...mine])], onRows),
    ...spaceRefusals(space, table),
    ...(taken
      ? [`its column "${taken.column}" belongs to the source "${taken.source}". Choose another with \`--column NAME\`.`]
      : []),
    ...(onRows ? [] : await ownTableRefusals(db, table.oid)),
    ...(onRows && !taken ? columnRefusals(space, table, hazards.publications, flag) : []),
    ...(space.adoption && !taken ? await adoptionRefusals(db, table, space) : []),
    ...(onRows && !taken && !space.adoption ? await foreignVectors(db, table, space) : []),
  ];
}

function sourceOf(definition: SourceDefinition, table: Table, key: KeyColumn[], baseColumns: string[]): Source {
  return {
    id: 0,
    name: definition.name ?? table.table,
    relation: { oid: table.oid, schema: table.schema, table: table.table },
    key,
    content:
      'columns' in definition.content ? { columns: [...definition.content.columns] } : { sql: definition.content.sql },
    baseColumns,
    filter: definition.where,
    tenantColumn: definition.tenant,
    flagColumn: undefined,
    longTexts: definition.longTexts ?? DEFAULT_LONG_TEXTS,
  };
}

function spaceOf(definition: SourceDefinition, model: PlanModel, table: Table, store: StoreKind): Space {
  const column = definition.column ?? DEFAULT_COLUMN;
  return {
    id: 0,
    sourceId: 0,
    spec: model.spec,
    fingerprint: model.fingerprint,
    dimensions: model.dimensions,
    state: 'live',
    store,
    column,
    type: definition.type ?? (definition.adopt ? vectorTypeOf(table, column) : undefined) ?? 'vector',
    metric: definition.metric ?? 'cosine',
    index: {
      kind: definition.index ?? 'hnsw',
      m: definition.m ?? DEFAULT_HNSW.m,
      efConstruction: definition.efConstruction ?? DEFAULT_HNSW.efConstruction,
    },
    adoption: definition.adopt ? 'open' : undefined,
  };
}

/** The ids are fixed before anything is done, so that the statements are the same wherever they are shown or run. */
async function reserveIds(
  db: Executor,
  source: Source,
  space: Space,
  kept: number | undefined,
): Promise<{ source: Source; space: Space }> {
  const [ids] = await db.query<{ source: number; space: number }>(
    `SELECT nextval(pg_get_serial_sequence('freshvec.source', 'id')) AS source,
       nextval(pg_get_serial_sequence('freshvec.space', 'id')) AS space`,
  );
  if (!ids) throw new TypeError('nextval gave no row');
  return { source: { ...source, id: ids.source }, space: { ...space, id: kept ?? ids.space, sourceId: ids.source } };
}

/** A column of vectors that freshvec did not make would be written over. */
async function foreignVectors(db: Executor, table: Table, space: Space): Promise<string[]> {
  const has = (column: string) => table.columns.some(({ name }) => name === column);
  if (!has(space.column) || has(`${space.column}_hash`)) return [];
  const [row] = await db.query<{ used: boolean }>(
    `SELECT EXISTS (SELECT FROM ${qualified(table.schema, table.table)} WHERE ${ident(space.column)} IS NOT NULL) AS used`,
  );
  if (!row?.used) return [];
  return [
    `its column "${space.column}" holds vectors that freshvec did not make and would write over. ` +
      'Take them over with `--adopt` if this model made them, choose another column with `--column NAME`, or set it to NULL first.',
  ];
}

/** Content that fails on a row that is there would fail in every worker. */
async function estimateOrRefuse(
  db: Database,
  table: Table,
  source: Source,
  model: PlanModel,
  adopted?: string,
): Promise<Estimate> {
  try {
    return await estimate(db, source, model, adopted);
  } catch (error) {
    if (!(error instanceof Error) || !/^(22|P0)/.test(sqlState(error) ?? '')) throw error;
    throw new SourceRefused(
      nameOf(table),
      [`its content or filter fails on one of its rows (SQLSTATE ${sqlState(error)}).`],
      {
        cause: error,
      },
    );
  }
}

async function readSettings(db: Executor): Promise<{ preparedTransactions: boolean }> {
  const [row] = await db.query<{ prepared: boolean }>(
    `SELECT current_setting('max_prepared_transactions') <> '0' AS prepared`,
  );
  return { preparedTransactions: row?.prepared ?? false };
}

function costOf(model: PlanModel, tokens: number): number | undefined {
  if (/^(static|fake)\//.test(model.spec)) return 0;
  return model.pricePerMillionTokens === undefined ? undefined : (tokens / 1e6) * model.pricePerMillionTokens;
}

/** Undefined where nothing is taken over. */
export function verificationOf(model: PlanModel, { adopts, tokensPerText }: Estimate): Verification | undefined {
  if (adopts === 0) return undefined;
  const rows = Math.min(SAMPLED_ROWS, adopts);
  const tokens = Math.round(rows * tokensPerText);
  return { rows, tokens, cost: costOf(model, tokens) };
}

function nameOf(table: Table): string {
  return `${table.schema}.${table.table}`;
}

function refuseIf(table: Table, reasons: readonly string[]): void {
  if (reasons.length > 0) throw new SourceRefused(nameOf(table), reasons);
}
