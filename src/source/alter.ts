import { functionsSql, readCaptureTarget, readWatched } from '../capture/index.js';
import { goneColumns } from '../catalog/columns.js';
import { type LongTexts, longTextsRefusal } from '../catalog/long-texts.js';
import { recedeSql } from '../catalog/migration.js';
import { type Content, getSource, type Source } from '../catalog/source.js';
import { listMaintainedSpaces, type Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { lockedTable } from './apply.js';
import { readExpressions } from './base-columns.js';
import { currentSource, holdSource } from './current.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';
import { SourceRefused } from './errors.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { ownColumns } from './existing.js';
import { retryLongTexts } from './long-texts.js';
import { rangesSql } from './ranges.js';
import { expressionRefusals, ownColumnRefusals } from './refuse.js';
import { refuseRestless } from './restless.js';
import { captureStatements, lockWords, updateSourceSql } from './statements.js';
import { readTable } from './table.js';

export interface SourceChanges {
  readonly content?: Content | undefined;
  /** null takes the filter away. */
  readonly where?: string | null | undefined;
  readonly longTexts?: LongTexts | undefined;
}

export interface AlterPlan {
  readonly source: Source;
  /** Empty when nothing changes. */
  readonly statements: readonly PlannedStatement[];
}

/**
 * What changing a source will do. For another content or filter every row is looked at again, page by page, and only
 * those whose text, or whose place in the source, is another than before are embedded, or lose their vector. Another
 * choice for long texts concerns only those that are on record as too long.
 */
export async function planAlter(db: Database, name: string, changes: SourceChanges): Promise<AlterPlan> {
  const { before, source } = await altered(db, name, changes);
  return { source, statements: await alterStatements(db, before, source) };
}

/** The source as it is, and as it would be. Throws SourceRefused where that cannot be. */
async function altered(
  db: Database,
  name: string,
  changes: SourceChanges,
): Promise<{ readonly before: Source; readonly source: Source }> {
  const before = await existingSource(db, name);
  const content = changes.content ?? before.content;
  const filter = changes.where === undefined ? before.filter : (changes.where ?? undefined);
  const longTexts = changes.longTexts ?? before.longTexts;
  const refusal = longTextsRefusal(longTexts);
  if (refusal) throw new SourceRefused(`${before.relation.schema}.${before.relation.table}`, [refusal]);
  const spaces = await listMaintainedSpaces(db, before.id);
  // An expression over the row as a whole is the same text, and reads fewer columns, once one was dropped.
  const gone = await goneColumns(db, before.relation.oid, before.baseColumns);
  const reads = !isSame([content, filter], [before.content, before.filter]) || gone.length > 0;
  const baseColumns = reads ? await checkedColumns(db, before, spaces, content, filter) : before.baseColumns;
  return { before, source: { ...before, content, filter, longTexts, baseColumns } };
}

/** What makes of a source, as it is now, another one. */
async function alterStatements(db: Executor, before: Source, source: Source): Promise<PlannedStatement[]> {
  const spaces = await listMaintainedSpaces(db, source.id);
  const retry = source.longTexts === before.longTexts ? [] : retryLongTexts(source, spaces);
  const update = (why: string) => ({ sql: updateSourceSql(source), lock: NO_LOCK, why });
  if (isSame(readsOf(source), readsOf(before)))
    return source.longTexts === before.longTexts
      ? []
      : [update('records what becomes of long texts'), ...askAgain(spaces), ...retry];
  const target = await readCaptureTarget(db, source, spaces);
  const lock = lockWords('SHARE ROW EXCLUSIVE', target);
  return [
    update('records the new content and filter'),
    ...askAgain(spaces),
    ...retry,
    ...(isSame(source.content, before.content)
      ? []
      : spaces.filter(({ adoption }) => adoption === 'open').map(endAdoption)),
    ...(spaces.every(isFilled)
      ? []
      : [{ sql: recedeSql(source.id), lock: NO_LOCK, why: 'has a move that is under way checked once more' }]),
    ...functionsSql(target).map((sql) => ({ sql, lock: NO_LOCK, why: 'defines what the triggers do' })),
    ...captureStatements(target),
    ...spaces.map((space) => ({
      // What is not switched to yet has no row of the new content: it is loaded anew.
      sql: rangesSql(source, space.id, isFilled(space) ? 'sweep' : 'load'),
      lock,
      why: 'has every row compared with its vector',
    })),
  ];
}

function readsOf({ content, filter, baseColumns }: Source) {
  return [content, filter, baseColumns];
}

/** Searches are, or were, answered from it. */
function isFilled({ state }: Space): boolean {
  return state === 'live' || state === 'retained';
}

/** Rows that a worker holds were read under the definition before: they are looked at once more when it is done. */
function askAgain(spaces: readonly Space[]): PlannedStatement[] {
  if (spaces.length === 0) return [];
  const sql = `WITH held AS (
  SELECT space_id, key FROM freshvec.lease WHERE space_id IN (${spaces.map(({ id }) => id).join(', ')}) AND token IS NOT NULL
  ORDER BY space_id, key FOR UPDATE
)
UPDATE freshvec.lease l SET again = true FROM held h WHERE l.space_id = h.space_id AND l.key = h.key`;
  return [{ sql, lock: NO_LOCK, why: 'has rows that a worker holds looked at again' }];
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Vectors that are still to be taken over were made from what the content was before. */
function endAdoption({ id }: Space): PlannedStatement {
  const sql = `UPDATE freshvec.space SET adoption = 'done' WHERE id = ${id} AND adoption = 'open'`;
  return { sql, lock: NO_LOCK, why: 'takes over no more vectors: they were made from the content before' };
}

/** Plans and does it. Throws FreshvecError `source_changed` where somebody else alters the source at the same time. */
export async function alterSource(
  db: Database,
  name: string,
  changes: SourceChanges,
  options: ExecuteOptions = {},
): Promise<AlterPlan> {
  const { before, source } = await altered(db, name, changes);
  const plan = { source, statements: await alterStatements(db, before, source) };
  if (plan.statements.length === 0) return plan;
  if (!isSame(readsOf(source), readsOf(before))) {
    const spaces = await listMaintainedSpaces(db, source.id);
    if (spaces.some(({ store }) => store === 'column')) await refuseRestless(db, source);
  }
  const statements = async (tx: Executor) => {
    const held = await holdSource(tx, source);
    if (!isSame(definitionOf(held), definitionOf(before))) throw changedMeanwhile(name);
    return alterStatements(tx, held, { ...held, ...definitionOf(source) });
  };
  await executeStatements(db, await lockedTable(db, source), statements, options);
  return plan;
}

/** What `alter` may change. */
function definitionOf({ content, filter, longTexts, baseColumns }: Source) {
  return { content, filter, longTexts, baseColumns };
}

function changedMeanwhile(name: string): FreshvecError {
  return new FreshvecError('source_changed', `The source "${name}" was altered by somebody else just now: try again.`);
}

async function existingSource(db: Database, name: string): Promise<Source> {
  const source = await getSource(db, name);
  const current = await currentSource(db, source);
  if (current) return current;
  throw new FreshvecError(
    'table_gone',
    `The table ${source.relation.schema}.${source.relation.table} of source "${name}" was dropped. Remove the source.`,
  );
}

async function checkedColumns(
  db: Database,
  source: Source,
  spaces: readonly Space[],
  content: Content,
  filter: string | undefined,
): Promise<string[]> {
  const table = await readTable(db, qualified(source.relation.schema, source.relation.table));
  const facts = await readExpressions(db, table, content, filter);
  const own = (await ownColumns(db, table.oid)).map(({ column }) => column);
  const onRows = spaces.some((space) => space.store === 'column');
  const reasons = [
    ...expressionRefusals(table, content, source.tenantColumn, facts),
    ...ownColumnRefusals(facts, own, onRows),
  ];
  if (reasons.length > 0) throw new SourceRefused(`${table.schema}.${table.table}`, reasons);
  const read = facts.wholeRow ? table.columns.map(({ name }) => name) : facts.columns;
  return (await readWatched(db, table.oid, read)).map(({ name }) => name);
}
