import { listRelations } from '../../capture/index.js';
import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import { ident, qualified } from '../../db/identifiers.js';
import { captureForStatements, lockWords, NO_LOCK, type PlannedStatement } from '../../source/index.js';
import { analyzeSql } from '../../store/analyze.js';
import { indexOnSql } from '../../store/build-index.js';
import { columnNames } from '../../store/column.js';
import { dropFlagSql, dropSpaceSql } from '../../store/index.js';
import { indexedRelation, indexName } from '../../store/index-state.js';
import { vacuumSql } from '../../store/vacuum-table.js';
import type { PlanContext } from './context.js';

/** What the steps after expanding run, in their order; workers' own writes are left out. `to` has the id that it will get. */
export async function laterStatements(
  { db, source, from, hazards, indexServes }: Pick<PlanContext, 'db' | 'source' | 'from' | 'hazards' | 'indexServes'>,
  to: Space,
  vectorSchema: string,
): Promise<PlannedStatement[]> {
  const relations = await listRelations(db, source.relation.oid);
  const leaves = relations.filter(({ leaf }) => leaf).map(({ schema, table }) => qualified(schema, table));
  const brief = lockWords('ACCESS EXCLUSIVE', {
    source,
    relations: relations.map(({ table }) => table),
  });
  return [
    ...(indexServes ? [] : indexStatements(source, to, relations, vectorSchema)),
    {
      sql: analyzeSql(source, to),
      lock:
        to.store === 'table' ? NO_LOCK : `SHARE UPDATE EXCLUSIVE on ${source.relation.schema}.${source.relation.table}`,
      why: 'has the planner know what the new space holds, so that it goes by its index',
    },
    {
      sql: `UPDATE freshvec.pointer SET epoch = epoch + 1, space_id = ${to.id} WHERE source_id = ${source.id} AND space_id <> ${to.id}`,
      lock: NO_LOCK,
      why: 'cutover: answers searches from the new space; rollback is the same with the old one',
    },
    ...(
      await captureForStatements(db, to.store === 'column' ? source : { ...source, flagColumn: undefined }, [to])
    ).map((statement) => ({ ...statement, why: 'complete: notices what the app writes for the new space alone' })),
    ...(from.store === 'column' ? indexDrop(from, relations.length > 1, source, brief) : []),
    // Clearing would fire the app's own triggers for every row, so it is left out where there are any.
    ...(from.store === 'column' && hazards.updateTriggers.length === 0 ? clearing(from, leaves) : []),
    ...dropSpaceSql(source, from, 'drop').map((sql) => ({
      sql,
      lock: from.store === 'column' ? brief : NO_LOCK,
      why: 'complete: drops the old vectors; there is no way back',
    })),
    ...(from.store === 'column' && to.store !== 'column'
      ? dropFlagSql(source).map((sql) => ({
          sql,
          lock: brief,
          why: 'complete: drops the flag, which nothing sets any more',
        }))
      : []),
  ];
}

/** Of a partitioned table: on the parent alone, then on each partition, whose index is attached. */
function indexStatements(
  source: Source,
  to: Space,
  relations: Awaited<ReturnType<typeof listRelations>>,
  vectorSchema: string,
): PlannedStatement[] {
  if (to.index.kind === 'none') return [];
  const { schema, table, column } = indexedRelation(source, to);
  const on = (name: string) => indexOnSql(to, name, column, vectorSchema);
  const why = 'builds the index of the new vectors, while reads and writes go on';
  const concurrently = (name: string, relation: string, lockOn: string): PlannedStatement => ({
    sql: `CREATE INDEX CONCURRENTLY ${ident(name)} ON ${on(relation)}`,
    lock: lockOn === '' ? NO_LOCK : `SHARE UPDATE EXCLUSIVE on ${lockOn}, as long as the build takes`,
    why,
  });
  if (to.store === 'table') return [concurrently(indexName(to), qualified(schema, table), '')];
  const leaves = relations.filter(({ leaf }) => leaf);
  if (relations.length === 1) return [concurrently(indexName(to), qualified(schema, table), `${schema}.${table}`)];
  const ofLeaf = (oid: number) => `${indexName(to)}_${oid}`;
  return [
    {
      sql: `CREATE INDEX ${ident(indexName(to))} ON ONLY ${on(qualified(schema, table))}`,
      lock: `SHARE on ${schema}.${table}, for milliseconds`,
      why: 'makes the index that those of the partitions hang on',
    },
    ...leaves.flatMap((leaf) => [
      concurrently(ofLeaf(leaf.oid), qualified(leaf.schema, leaf.table), `${leaf.schema}.${leaf.table}`),
      {
        sql: `ALTER INDEX ${qualified(schema, indexName(to))} ATTACH PARTITION ${qualified(leaf.schema, ofLeaf(leaf.oid))}`,
        lock: NO_LOCK,
        why: 'hangs it on the parent',
      },
    ]),
  ];
}

function indexDrop(from: Space, partitioned: boolean, source: Source, brief: string): PlannedStatement[] {
  if (from.index.kind === 'none') return [];
  const { schema, table } = source.relation;
  return [
    {
      sql: `DROP INDEX ${partitioned ? '' : 'CONCURRENTLY '}IF EXISTS ${qualified(schema, indexName(from))}`,
      lock: partitioned ? brief : `SHARE UPDATE EXCLUSIVE on ${schema}.${table}`,
      why: 'complete: drops the old index first, which makes clearing fast',
    },
  ];
}

function clearing(from: Space, leaves: readonly string[]): PlannedStatement[] {
  const { vector, model, hash } = columnNames(from);
  return leaves.flatMap((leaf) => [
    {
      sql: `UPDATE ${leaf} SET ${vector} = NULL, ${model} = NULL, ${hash} = NULL WHERE ctid >= $1 AND ctid < $2 AND ${vector} IS NOT NULL`,
      lock: 'rows, in batches of 30 ms',
      why: 'complete: clears the old vectors page by page, as fast as the throttle lets it',
    },
    {
      sql: vacuumSql(leaf),
      lock: `SHARE UPDATE EXCLUSIVE on ${leaf}`,
      why: 'complete: gives their room back, which dropping a column alone does not',
    },
  ]);
}
