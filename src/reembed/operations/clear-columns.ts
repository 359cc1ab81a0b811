import { setTimeout as sleep } from 'node:timers/promises';
import { listRelations } from '../../capture/index.js';
import type { Space } from '../../catalog/space.js';
import type { Database, Executor } from '../../db/database.js';
import { ident, qualified } from '../../db/identifiers.js';
import { readHazards } from '../../source/index.js';
import { createPace } from '../../stages/pace.js';
import { columnNames, columnsOf, columnsThere } from '../../store/column.js';
import { longSession } from '../../store/index-session.js';
import type { StepContext } from '../operation.js';

/** Rows of the first batch; from there on their number follows the time that locks are held. */
const FIRST_ROWS = 100;
/** Rows that the app held are tried again in so many passes; what is left then goes with the column. */
const PASSES = 3;
/** Rest between batches, as part of the time that a batch took. */
const REST = 0.5;

/**
 * Sets the vectors of a space to NULL in small batches, so that a VACUUM can give their room back: a dropped column
 * keeps it. Rows that the app holds are passed over, and tried once more at the end. Left out where the app has UPDATE
 * triggers of its own, which would fire for every row.
 */
export async function clearColumns({ db, source, signal }: StepContext, space: Space): Promise<void> {
  const columns = (await columnsThere(db, source.relation.oid, columnsOf(space))).map(ident);
  if (!columns.includes(columnNames(space).vector)) return;
  if ((await readHazards(db, source.relation.oid)).updateTriggers.length > 0) return;
  const leaves = (await listRelations(db, source.relation.oid)).filter(({ leaf }) => leaf);
  for (const leaf of leaves) {
    const table = qualified(leaf.schema, leaf.table);
    let cleared = 0;
    for (let pass = 0; pass < PASSES; pass++) {
      const round = await clearOnce(db, table, columns, signal);
      cleared += round.cleared;
      if (round.passedOver === 0) break;
    }
    if (cleared > 0) await vacuum(db, table);
  }
}

async function clearOnce(
  db: Database,
  table: string,
  [vector = '', ...companions]: readonly string[],
  signal: AbortSignal,
): Promise<{ cleared: number; passedOver: number }> {
  const { pages, rowsPerPage } = await sizeOf(db, table);
  const pace = createPace(FIRST_ROWS);
  let cleared = 0;
  let seen = 0;
  for (let page = 0; page < pages; ) {
    signal.throwIfAborted();
    const next = page + Math.max(1, Math.floor(pace.rows() / rowsPerPage));
    const began = performance.now();
    const [row] = await db.tx((tx) =>
      tx.query<{ seen: number; cleared: number }>(
        `WITH seen AS MATERIALIZED (
           SELECT ctid FROM ${table} WHERE ctid >= $1::tid AND ctid < $2::tid AND ${vector} IS NOT NULL
         ), held AS MATERIALIZED (
           SELECT t.ctid FROM ${table} t WHERE t.ctid = ANY(ARRAY(SELECT ctid FROM seen)) FOR NO KEY UPDATE SKIP LOCKED
         ), done AS (
           UPDATE ${table} t SET ${[vector, ...companions].map((column) => `${column} = NULL`).join(', ')}
           WHERE t.ctid = ANY(ARRAY(SELECT ctid FROM held)) RETURNING 1
         )
         SELECT (SELECT count(*) FROM seen) AS seen, (SELECT count(*) FROM done) AS cleared`,
        [`(${page},0)`, `(${next},0)`],
      ),
    );
    const tookMs = performance.now() - began;
    page = next;
    seen += row?.seen ?? 0;
    cleared += row?.cleared ?? 0;
    pace.observe(row?.cleared ?? 0, tookMs);
    if (row?.cleared) await sleep(tookMs * REST, undefined, { signal });
  }
  return { cleared, passedOver: seen - cleared };
}

async function sizeOf(db: Executor, table: string): Promise<{ pages: number; rowsPerPage: number }> {
  const [row] = await db.query<{ pages: number; rows: number }>(
    `SELECT pg_relation_size(oid) / current_setting('block_size')::int AS pages,
       CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples / relpages ELSE 10 END::float8 AS rows
     FROM pg_class WHERE oid = $1::text::regclass`,
    [table],
  );
  return { pages: row?.pages ?? 0, rowsPerPage: Math.max(1, row?.rows ?? 1) };
}

async function vacuum(db: Database, table: string): Promise<void> {
  await longSession(db, { lockTimeoutMs: 0 }, (session) => session.query(`VACUUM ${table}`));
}

/** Those of the space's columns that nobody dropped or renamed, the vector first. Quoted. */
