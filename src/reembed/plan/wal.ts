import type { Findings, PlanContext } from './context.js';

/** Bytes of WAL, measured here on PostgreSQL 17 with pgvector 0.8.0 (see test/reembed/plan.test.ts). */

/** Records of a row's change, and of its lease that comes and goes. */
const PER_ROW = 700;
/** Chunks of TOAST, with the entries of its index. */
const PER_CHUNK = 170;
const CHUNK = 1996;
/** An entry of a plain index. */
const PER_INDEX = 90;
/** Beside the vector itself, where a new version of a row goes into a graph: 3.5 kB in all for 768 dimensions. */
const PER_GRAPH = 400;

/** What the move writes to the WAL: all of it passes replicas, archives and slots. */
export async function measureWal({ db, from, to, rows, sizes, table, hazards }: PlanContext): Promise<Findings> {
  const chunks = sizes.toasted ? Math.ceil(sizes.vector / CHUNK) : 0;
  const graph = table.vectorIndexes.length > 0 ? table.indexedVectorBytes + PER_GRAPH : 0;
  const indexes = to.store === 'column' ? table.otherIndexes * PER_INDEX + graph : PER_INDEX;
  // What is out of line and stays as it is, is not written again.
  const toast = sizes.embeddedShare * ((sizes.toasted ? sizes.vector : 0) + chunks * PER_CHUNK);
  const perRow = PER_ROW + sizes.rowAfter + toast + indexes;
  const total = Math.round(rows * perRow + sizes.index);
  const clears = from.store === 'column' && hazards.updateTriggers.length === 0;
  const [server] = await db.query<{ images: boolean; slots: string[] }>(
    `SELECT current_setting('full_page_writes') = 'on' AS images,
       ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE NOT active AND NOT temporary ORDER BY 1) AS slots`,
  );
  return {
    facts: [
      {
        name: 'walRowBytes',
        value: Math.round(perRow),
        unit: 'bytes',
        note: `of the backfill${table.vectorIndexes.length > 0 && to.store === 'column' ? `, ${Math.round((100 * graph) / perRow)} % of it for the vector index that is on the table` : ''}; an estimate`,
      },
      {
        name: 'walBytes',
        value: total,
        unit: 'bytes',
        note: `of backfill and index${clears ? '; `complete` rewrites each row once more, without its old vector' : ''}${server?.images ? '; after each checkpoint every page that is touched adds up to 8 kB once' : ''}`,
      },
    ],
    notes: server?.slots.length
      ? [
          `The replication slot ${server.slots.join(', ')} is not in use and keeps all of this WAL on disk: drop it with SELECT pg_drop_replication_slot(…), or bring its reader back.`,
        ]
      : [],
  };
}
