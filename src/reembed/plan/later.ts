import { listRelations } from '../../capture/index.js';
import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import type { Executor } from '../../db/database.js';
import { ident, qualified } from '../../db/identifiers.js';
import { lockWords, NO_LOCK, type PlannedStatement } from '../../source/index.js';
import { indexOnSql } from '../../store/build-index.js';
import { columnNames } from '../../store/column.js';
import { dropFlagSql, dropSpaceSql } from '../../store/index.js';
import { indexedRelation, indexName } from '../../store/index-state.js';

/** What the steps after expanding run, in their order, as far as a person wants to read it. */
export async function laterStatements(
  db: Executor,
  source: Source,
  from: Space,
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
    ...indexStatements(source, to, relations, vectorSchema),
    {
      sql: `UPDATE freshvec.pointer SET epoch = epoch + 1, space_id = ${to.id} WHERE source_id = ${source.id} AND space_id <> ${to.id}`,
      lock: NO_LOCK,
      why: 'cutover: answers searches from the new space; rollback is the same with the old one',
    },
    ...(from.store === 'column' ? clearing(from, leaves, relations.length > 1, source, brief) : []),
    ...dropSpaceSql(source, from).map((sql) => ({
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

function clearing(
  from: Space,
  leaves: readonly string[],
  partitioned: boolean,
  source: Source,
  brief: string,
): PlannedStatement[] {
  const { vector, model, hash } = columnNames(from);
  const index = qualified(source.relation.schema, indexName(from));
  return [
    ...(from.index.kind === 'none'
      ? []
      : [
          {
            sql: `DROP INDEX ${partitioned ? '' : 'CONCURRENTLY '}IF EXISTS ${index}`,
            lock: partitioned ? brief : `SHARE UPDATE EXCLUSIVE on ${source.relation.schema}.${source.relation.table}`,
            why: 'complete: drops the old index first, which makes clearing fast',
          },
        ]),
    ...leaves.flatMap((leaf) => [
      {
        sql: `UPDATE ${leaf} SET ${vector} = NULL, ${model} = NULL, ${hash} = NULL WHERE ctid >= $1 AND ctid < $2 AND ${vector} IS NOT NULL`,
        lock: 'rows, in batches of 30 ms',
        why: 'complete: clears the old vectors page by page, so that their room comes back',
      },
      {
        sql: `VACUUM ${leaf}`,
        lock: `SHARE UPDATE EXCLUSIVE on ${leaf}`,
        why: 'complete: gives their room back',
      },
    ]),
  ];
}
