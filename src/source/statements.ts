import type { CaptureTarget } from '../capture/index.js';
import { functionsSql, triggersSql } from '../capture/index.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { literal, qualified } from '../db/identifiers.js';
import { shareTableSql } from '../search/index.js';
import { createSpaceSql } from '../store/index.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';
import { takeUpSql } from './kept.js';
import { rangesSql } from './ranges.js';

/** All that makes a table a source, in order. What locks the app's table comes last, so that it is held briefly. */
export function addStatements(
  target: CaptureTarget,
  space: Space,
  vectorSchema: string,
  takesUp: boolean,
): PlannedStatement[] {
  const { source } = target;
  const catalog = (sql: string, why: string): PlannedStatement => ({ sql, lock: NO_LOCK, why });
  return [
    catalog(insertSourceSql(source), 'records the source'),
    catalog(insertSpaceSql(space), 'records its space: vectors of one model'),
    catalog(
      `INSERT INTO freshvec.pointer (source_id, space_id) VALUES (${source.id}, ${space.id})`,
      'searches are answered from this space',
    ),
    ...functionsSql(target).map((sql) => catalog(sql, 'defines what the triggers do')),
    ...spaceStatements(target, space, vectorSchema),
    ...(takesUp ? takeUpSql(source, space) : []).map((sql) => catalog(sql, 'takes up the vectors that were kept')),
    ...captureStatements(target),
    loadStatement(target, space),
  ];
}

/** Makes room for the vectors of a space. */
export function spaceStatements(
  target: Pick<CaptureTarget, 'source' | 'relations'>,
  space: Space,
  vectorSchema: string,
): PlannedStatement[] {
  const { source } = target;
  const onSource = space.store === 'column';
  return [
    ...createSpaceSql(source, space, vectorSchema).map((sql) => ({
      sql,
      lock: onSource ? lockWords('ACCESS EXCLUSIVE', target) : NO_LOCK,
      why: onSource ? 'makes room for the vectors on the rows' : 'makes a table for the vectors',
    })),
    ...(onSource ? [] : shareTableSql(source, space)).map((sql) => ({
      sql,
      lock: NO_LOCK,
      why: 'lets whoever may read the rows search their vectors',
    })),
  ];
}

/**
 * Has every row that is there now visited: to be run once capture enqueues for the space.
 * @param part of the rows that is wanted at first
 */
export function loadStatement(
  target: Pick<CaptureTarget, 'source' | 'relations'>,
  space: Space,
  part = 1,
): PlannedStatement {
  return {
    sql: rangesSql(target.source, space.id, 'load', { part }),
    lock: lockWords('SHARE ROW EXCLUSIVE', target),
    why: 'has the rows that are there now embedded',
  };
}

export function captureStatements(target: CaptureTarget): PlannedStatement[] {
  const lock = lockWords('SHARE ROW EXCLUSIVE', target);
  return triggersSql(target).map((sql) => ({ sql, lock, why: 'notices what the app writes' }));
}

export function lockWords(
  mode: 'ACCESS EXCLUSIVE' | 'SHARE ROW EXCLUSIVE',
  { source, relations }: Pick<CaptureTarget, 'source' | 'relations'>,
): string {
  const below = relations.length > 1 ? ` and ${relations.length - 1} partitions` : '';
  return `${mode} on ${source.relation.schema}.${source.relation.table}${below}, for milliseconds`;
}

function insertSourceSql(source: Source): string {
  const { relation, key, content } = source;
  const table = qualified(relation.schema, relation.table);
  const values = [
    String(source.id),
    literal(source.name),
    `${literal(table)}::regclass`,
    literal(relation.schema),
    literal(relation.table),
    textArray(key.map(({ name }) => name)),
    textArray(key.map(({ type }) => type)),
    'columns' in content ? textArray(content.columns) : 'NULL',
    'sql' in content ? literal(content.sql) : 'NULL',
    textArray(source.baseColumns),
    orNull(source.filter),
    orNull(source.tenantColumn),
    orNull(source.flagColumn),
    literal(source.longTexts),
  ];
  return `INSERT INTO freshvec.source
  (id, name, relation_oid, schema_name, table_name, key_columns, key_types, content_columns, content_sql, base_columns, filter_sql, tenant_column, flag_column, long_texts)
OVERRIDING SYSTEM VALUE VALUES
  (${values.join(', ')})`;
}

export function updateSourceSql(source: Source): string {
  const { content } = source;
  return `UPDATE freshvec.source SET
  content_columns = ${'columns' in content ? textArray(content.columns) : 'NULL'},
  content_sql = ${'sql' in content ? literal(content.sql) : 'NULL'},
  base_columns = ${textArray(source.baseColumns)},
  filter_sql = ${orNull(source.filter)},
  long_texts = ${literal(source.longTexts)}
WHERE id = ${source.id}`;
}

export function insertSpaceSql(space: Space): string {
  const values = [
    space.id,
    space.sourceId,
    literal(space.spec),
    literal(space.fingerprint),
    space.dimensions,
    literal(space.state),
    literal(space.store),
    literal(space.column),
    literal(space.type),
    literal(space.metric),
    literal(space.index.kind),
    space.index.m,
    space.index.efConstruction,
    orNull(space.adoption),
  ];
  return `INSERT INTO freshvec.space
  (id, source_id, spec, fingerprint, dimensions, state, store, column_name, vector_type, metric, index_kind, m, ef_construction, adoption)
OVERRIDING SYSTEM VALUE VALUES
  (${values.join(', ')})`;
}

function textArray(values: readonly string[]): string {
  return `ARRAY[${values.map(literal).join(', ')}]::text[]`;
}

function orNull(value: string | undefined): string {
  return value === undefined ? 'NULL' : literal(value);
}
